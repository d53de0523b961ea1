//! Which files, ports and system calls a daemon of this configuration has a use for; everything else is taken
//! out of its reach before it opens anything (`docs/decisions/0019-confined-from-the-start.md`).

use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::ServerName;
use thiserror::Error;
use vault_guard::{Access, ConfineError, FileRules, Reach, confine_calls, confine_files};

use crate::config::{Config, HardeningConfig, MetricsListen, StoreConfig};
use crate::store::postgres::{Credentials, PostgresOptions};

/// Where the C library and the modules that others load have their parts; all of it is anybody's to read.
const LIBRARIES: [&str; 6] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/dev/urandom"];
/// Settings of name resolution and of modules. The whole folder, since its files are replaced by renaming,
/// and a rule for one of them would end with it.
const SETTINGS: [&str; 2] = ["/etc", "/run/systemd/resolve"];
/// Answers that are too long for a datagram.
const DNS_PORT: u16 = 53;

/// Why the daemon does not start.
#[derive(Debug, Error)]
pub enum NotConfined {
    /// The kernel cannot confine it.
    #[error("hardening.landlock: {0}; \"if-available\" does without, where it has to be")]
    Absent(FileRules),
    /// The kernel can, and does not.
    #[error("hardening.landlock: {0}")]
    Files(ConfineError),
    /// There is no filter of system calls.
    #[error("hardening.seccomp: {0}; \"off\" does without, where it has to be")]
    Calls(ConfineError),
}

/// Confines the calling thread and those it starts to what a daemon of this configuration needs.
///
/// # Errors
/// [`NotConfined`]; what is in force by then stays so.
pub fn confine(config: &Config) -> Result<(), NotConfined> {
    let HardeningConfig { landlock_required, seccomp_required, .. } = &config.hardening;
    match confine_files(&reach(config)).map_err(NotConfined::Files)? {
        absent @ FileRules::Absent if *landlock_required => return Err(NotConfined::Absent(absent)),
        absent @ FileRules::Absent => tracing::warn!(event = "files_not_confined", reason = %absent),
        kept @ FileRules::Kept(_) => tracing::info!(event = "files_confined", kind = %kept),
    }
    if *seccomp_required {
        confine_calls().map_err(NotConfined::Calls)?;
        tracing::info!(event = "calls_confined");
    } else {
        tracing::warn!(event = "calls_not_confined", reason = "hardening.seccomp is off");
    }
    Ok(())
}

/// As [`confine`] for a throwaway vault in this folder, which has its clients in the same process, and a
/// temporary folder that goes with it. What cannot be had is told and done without.
pub fn confine_dev(config: &Config, folder: &Path, temporary: &Path) {
    let mut reach = Reach { bind: None, connect: None, ..reach(config) };
    reach.paths.extend([folder, temporary].map(|path| (path.to_owned(), Access::Write)));
    reach.paths.extend(temporary.parent().map(|above| (above.to_owned(), Access::RemoveFolder)));
    match confine_files(&reach) {
        Ok(FileRules::Kept(_)) => {}
        Ok(absent @ FileRules::Absent) => tracing::warn!(event = "files_not_confined", reason = %absent),
        Err(error) => tracing::warn!(event = "files_not_confined", reason = %error),
    }
    if let Err(error) = confine_calls() {
        tracing::warn!(event = "calls_not_confined", reason = %error);
    }
}

/// What a daemon of this configuration reaches.
fn reach(config: &Config) -> Reach {
    let mut reach = Reach { bind: Some(vec![config.listen.address.port()]), ..Reach::default() };
    let mut connect = config.hardening.connect_ports.clone();
    let vault = &config.vault;
    reach.write(&vault.keyring_folder);
    reach.paths.extend(folders_of(&vault.anchor_file).map(|folder| (folder, Access::Write)));
    reach.read_beside(&vault.policy_file);
    let tls = &config.listen.tls;
    reach.read_beside(&tls.certificate);
    reach.read_beside(&tls.private_key);
    for ca in &tls.client_cas {
        reach.read_beside(&ca.certificate);
        ca.revocation_lists.iter().for_each(|list| reach.read_beside(list));
    }
    config.seal.passphrase_file.iter().for_each(|file| reach.read_beside(file));
    if let Some(hsm) = &config.seal.hsm {
        reach.read_beside(&hsm.pin_file);
        reach.read_beside(&hsm.module);
        reach.read_all(&LIBRARIES);
        reach.read_all(&SETTINGS);
    }
    match &config.store {
        StoreConfig::Embedded(embedded) => reach.write(&embedded.folder),
        StoreConfig::Postgres(options) => reach.database(options, &mut connect),
    }
    match &config.metrics {
        MetricsListen::Off => {}
        MetricsListen::Loopback(address) => reach.bind.iter_mut().for_each(|bind| bind.push(address.port())),
        MetricsListen::Unix(socket) => {
            reach.paths.extend(folders_of(socket).map(|folder| (folder, Access::Socket)));
        }
    }
    let HardeningConfig { read_paths, write_paths, .. } = &config.hardening;
    reach.paths.extend(read_paths.iter().map(|path| (path.clone(), Access::Read)));
    reach.paths.extend(write_paths.iter().map(|path| (path.clone(), Access::Own)));
    Reach { connect: Some(connect), ..reach }
}

/// Ways to put a configuration's words into rules.
trait Reached {
    fn write(&mut self, folder: &Path);
    fn read_beside(&mut self, file: &Path);
    fn read_all(&mut self, paths: &[&str]);
    fn database(&mut self, options: &PostgresOptions, connect: &mut Vec<u16>);
}

impl Reached for Reach {
    fn write(&mut self, folder: &Path) {
        self.paths.push((folder.to_owned(), Access::Write));
    }

    /// Files are replaced by renaming: a rule for the file itself would end with it.
    fn read_beside(&mut self, file: &Path) {
        self.paths.extend(folders_of(file).map(|folder| (folder, Access::Read)));
    }

    fn read_all(&mut self, paths: &[&str]) {
        self.paths.extend(paths.iter().map(|path| (PathBuf::from(path), Access::Read)));
    }

    fn database(&mut self, options: &PostgresOptions, connect: &mut Vec<u16>) {
        self.read_beside(&options.ca_file);
        match &options.credentials {
            Credentials::Password(file) => self.read_beside(file),
            Credentials::Certificate { certificate, private_key } => {
                self.read_beside(certificate);
                self.read_beside(private_key);
            }
        }
        connect.extend(options.hosts.iter().map(|host| host.port));
        let named = |name: &String| matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)));
        if options.hosts.iter().any(|host| named(&host.name)) {
            connect.push(DNS_PORT);
            self.read_all(&LIBRARIES);
            self.read_all(&SETTINGS);
        }
    }
}

/// The folder that a file stands in, and the one that it is in behind symbolic links. For a file in the root
/// folder the file alone: its folder would be everything.
fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let behind = fs::canonicalize(file).ok();
    let paths = [Some(file.to_owned()), behind];
    paths.into_iter().flatten().map(|path| match path.parent() {
        Some(folder) if folder.parent().is_some() => folder.to_owned(),
        _ => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = include_str!("../../deploy/vaultd.toml");
    const POSTGRES: &str = include_str!("../../deploy/vaultd-postgres.toml");

    fn reached(text: &str) -> (Vec<(String, Access)>, Vec<u16>, Vec<u16>) {
        let reach = reach(&Config::parse(text).unwrap());
        let mut paths: Vec<_> =
            reach.paths.iter().map(|(path, access)| (path.display().to_string(), *access)).collect();
        paths.sort_by(|a, b| a.0.cmp(&b.0));
        paths.dedup();
        (paths, reach.bind.unwrap(), reach.connect.unwrap())
    }

    fn paths(of: &[(&str, Access)]) -> Vec<(String, Access)> {
        of.iter().map(|(path, access)| ((*path).to_owned(), *access)).collect()
    }

    #[test]
    fn the_example_reaches_its_own_folders_and_connects_nowhere() {
        let (reached, bind, connect) = reached(CONFIG);
        let own = [
            ("/etc/vaultd", Access::Read),
            ("/var/lib/vaultd/anchor", Access::Write),
            ("/var/lib/vaultd/keyring", Access::Write),
            ("/var/lib/vaultd/store", Access::Write),
        ];
        assert_eq!((reached, bind, connect), (paths(&own), vec![7443, 9464], vec![]));
    }

    #[test]
    fn a_database_is_connected_to_and_names_need_what_resolves_them() {
        let (by_name, _, ports) = reached(POSTGRES);
        assert_eq!(ports, [5432, 5432, 53]);
        assert!(by_name.contains(&("/etc".to_owned(), Access::Read)), "{by_name:?}");
        let addressed = POSTGRES.replace(
            r#"["db-1.example.com", "db-2.example.com:5432"]"#,
            r#"["192.0.2.1:6432", "[2001:db8::1]:6433"]"#,
        );
        let (by_address, _, ports) = reached(&addressed);
        assert_eq!(ports, [6432, 6433]);
        let own = [
            ("/etc/vaultd", Access::Read),
            ("/var/lib/vaultd/anchor", Access::Write),
            ("/var/lib/vaultd/keyring", Access::Write),
        ];
        assert_eq!(by_address, paths(&own));
    }

    #[test]
    fn a_file_in_the_root_folder_does_not_open_all_of_it() {
        let text = CONFIG.replace("/etc/vaultd/policy.toml", "/policy.toml");
        let (reached, ..) = reached(&text.replace("/var/lib/vaultd/anchor/anchor", "/anchor"));
        for path in [("/policy.toml", Access::Read), ("/anchor", Access::Write)] {
            assert!(reached.contains(&(path.0.to_owned(), path.1)), "{path:?} in {reached:?}");
        }
        assert!(reached.iter().all(|(path, _)| path != "/"), "{reached:?}");
    }

    #[test]
    fn what_the_configuration_adds_is_reached() {
        let more = "read_paths = [\"/opt/hsm\"]\nwrite_paths = [\"/dev/hsm0\"]\nconnect_ports = [9004]\n";
        let text = CONFIG.replace("\n[hardening]\n", &format!("\n[hardening]\n{more}"));
        let text =
            text.replace("# listen = \"127.0.0.1:9464\"", "listen = \"unix:/run/vaultd/metrics.sock\"");
        let (reached, bind, connect) = reached(&text);
        for path in [("/opt/hsm", Access::Read), ("/dev/hsm0", Access::Own), ("/run/vaultd", Access::Socket)]
        {
            assert!(reached.contains(&(path.0.to_owned(), path.1)), "{path:?} in {reached:?}");
        }
        assert_eq!((bind, connect), (vec![7443], vec![9004]));
    }
}
