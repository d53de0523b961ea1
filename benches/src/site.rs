//! The vault that is measured: the throwaway vault of `vaultd dev`, with a new token for each call, under
//! quotas that are counted and never reached.

use std::fs;
use std::sync::Arc;

use vault_daemon::clock::SystemClock;
use vault_daemon::dev::DevFolder;

use crate::Done;
use crate::cli::ServeOptions;
use crate::process::serve_until_told;

const POLICY: &str = include_str!("policy.toml");
/// The purpose of every detokenization.
pub(crate) const PURPOSE: &str = "settlement";
/// To whom the values go.
pub(crate) const RECIPIENT: &str = "acquirer";
/// As long as an order's number is.
pub(crate) const REFERENCE: &str = "order-20417";

/// The policy that is measured, with or without one token per value.
pub(crate) fn policy(index: bool) -> String {
    POLICY.replace("one_token_per_value = false", &format!("one_token_per_value = {index}"))
}

/// Serves the vault in `folder`, which it makes.
pub(crate) fn serve_vault(options: &ServeOptions) -> Done {
    let folder = DevFolder::open(&options.folder)?;
    fs::write(folder.path().join("policy.toml"), policy(options.shape.index))?;
    let daemon = folder.serve(options.store.engine(), Arc::new(SystemClock))?;
    serve_until_told(daemon.local_addr())?;
    daemon.stop();
    Ok(())
}
