//! `migrate`: the one command that changes a schema, with credentials that no daemon has.

use std::path::PathBuf;

use clap::Args;
use vault_daemon::config::StoreConfig;
use vault_daemon::store::postgres::{Credentials, migrate};

use super::{Done, WithConfig};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    config: WithConfig,
    /// The role that owns the schema: not the one that serves.
    #[arg(long, value_name = "ROLE")]
    owner: String,
    /// A file with its password, closed to group and others.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_file", "private_key_file"])]
    password_file: Option<PathBuf>,
    /// Its certificate, PEM, where the server asks for one and not for a password.
    #[arg(long, value_name = "FILE", requires = "private_key_file")]
    certificate_file: Option<PathBuf>,
    /// The certificate's private key, PEM, closed to group and others.
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    private_key_file: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Done {
    let config = options.config.load()?;
    let StoreConfig::Postgres(database) = &config.store else {
        return Err("store.engine: only postgres has a schema".into());
    };
    let done = migrate(database, &options.owner, &options.credentials()?)?;
    if done.from == done.to {
        println!("the schema has version {} already; rights given again", done.to);
    } else {
        println!("schema brought from version {} to {}", done.from, done.to);
    }
    Ok(())
}

impl Options {
    fn credentials(&self) -> Result<Credentials, &'static str> {
        match (&self.password_file, &self.certificate_file, &self.private_key_file) {
            (Some(file), ..) => Ok(Credentials::Password(file.clone())),
            (None, Some(certificate), Some(private_key)) => Ok(Credentials::Certificate {
                certificate: certificate.clone(),
                private_key: private_key.clone(),
            }),
            _ => Err("--password-file, or --certificate-file with --private-key-file"),
        }
    }
}
