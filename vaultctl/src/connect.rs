//! Which vault, and as whom: a profile, four flags, or the folder of a throwaway vault.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vault_proto::Connector;

use crate::failure::Failure;
use crate::values::{read_file, read_text};

const PROFILE_BYTES_MAX: u64 = 64 * 1024;
const PEM_BYTES_MAX: u64 = 1024 * 1024;
const PROFILE_VARIABLE: &str = "VAULTCTL_PROFILE";
const PROFILE_DEFAULT: &str = ".config/vaultctl/profile.toml";

/// The ways to say it. One of them.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// A profile; else the one of VAULTCTL_PROFILE, else ~/.config/vaultctl/profile.toml.
    #[arg(long, global = true, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Where the vault is, as host:port; once for each of its daemons. Without --ca, --cert and --key they
    /// are asked as the profile says.
    #[arg(long = "endpoint", global = true, value_name = "HOST:PORT")]
    endpoints: Vec<String>,
    /// The name in the vault's certificate, if another than the endpoint's host.
    #[arg(long, global = true, value_name = "NAME")]
    server_name: Option<String>,
    /// The CA that vouches for the vault, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate, leaf first, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Your certificate's private key, PEM.
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The folder of a `vaultd dev`.
    #[arg(long, global = true, value_name = "FOLDER")]
    dev: Option<PathBuf>,
    /// A principal of that folder: checkout, billing, care, auditor or custodian.
    #[arg(long = "as", global = true, value_name = "PRINCIPAL")]
    principal: Option<String>,
}

/// A vault and a client of it, as a profile writes them.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Profile {
    #[serde(alias = "endpoint")]
    endpoints: Endpoints,
    server_name: Option<String>,
    ca_file: PathBuf,
    certificate_file: PathBuf,
    private_key_file: PathBuf,
}

/// Of all daemons of the vault: one text, or a list.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged, expecting = "host:port, or a list of them")]
enum Endpoints {
    One(String),
    Several(Vec<String>),
}

/// What was chosen.
#[derive(Debug, Eq, PartialEq)]
enum Choice {
    Flags(Profile),
    Dev { folder: PathBuf, principal: String },
    File(PathBuf),
}

impl Connection {
    /// A connector to each daemon of the chosen vault, at least one. Nothing is connected yet.
    pub(crate) fn connectors(&self) -> Result<Vec<Connector>, Failure> {
        let home = env::home_dir();
        match self.choice(env::var_os(PROFILE_VARIABLE), home.as_deref())? {
            Choice::Flags(profile) => profile.connectors(),
            Choice::Dev { folder, principal } => Ok(vec![Connector::from_dev_folder(&folder, &principal)?]),
            Choice::File(path) => {
                let mut profile = Profile::load(&path)?;
                if !self.endpoints.is_empty() {
                    profile.endpoints = Endpoints::Several(self.endpoints.clone());
                }
                profile.connectors()
            }
        }
    }

    fn choice(&self, variable: Option<OsString>, home: Option<&Path>) -> Result<Choice, Failure> {
        let flags = self.flags()?.map(Choice::Flags);
        let dev = self.dev_folder()?;
        let named = self.profile.clone().map(Choice::File);
        let mut chosen = [flags, dev, named].into_iter().flatten();
        match (chosen.next(), chosen.next()) {
            (Some(choice), None) => Ok(choice),
            (Some(_), Some(_)) => {
                Err(Failure::usage("--profile, --dev and --endpoint name a vault each; say one of them"))
            }
            (None, _) => Self::default_profile(variable, home),
        }
    }

    fn flags(&self) -> Result<Option<Profile>, Failure> {
        match (&self.ca, &self.cert, &self.key) {
            // Endpoints alone are for the credentials of a profile.
            (None, None, None) if self.server_name.is_none() && self.dev.is_none() => Ok(None),
            (None, None, None) if self.server_name.is_none() && self.endpoints.is_empty() => Ok(None),
            (Some(ca), Some(certificate), Some(key)) if !self.endpoints.is_empty() => Ok(Some(Profile {
                endpoints: Endpoints::Several(self.endpoints.clone()),
                server_name: self.server_name.clone(),
                ca_file: ca.clone(),
                certificate_file: certificate.clone(),
                private_key_file: key.clone(),
            })),
            _ => Err(Failure::usage("--endpoint, --ca, --cert and --key go together")),
        }
    }

    fn dev_folder(&self) -> Result<Option<Choice>, Failure> {
        match (&self.dev, &self.principal) {
            (None, None) => Ok(None),
            (Some(folder), Some(principal)) if is_file_name(principal) => {
                Ok(Some(Choice::Dev { folder: folder.clone(), principal: principal.clone() }))
            }
            (Some(_), Some(_)) => Err(Failure::usage("--as names a principal: letters, digits and hyphens")),
            _ => Err(Failure::usage("--dev and --as go together")),
        }
    }

    fn default_profile(variable: Option<OsString>, home: Option<&Path>) -> Result<Choice, Failure> {
        let variable = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = variable.or_else(|| home.map(|home| home.join(PROFILE_DEFAULT)));
        path.map(Choice::File).ok_or_else(|| Failure::usage("no vault is named; see --profile"))
    }
}

impl Profile {
    fn load(path: &Path) -> Result<Self, Failure> {
        let text = read_text(path, PROFILE_BYTES_MAX)?;
        let parsed = Self::parse(&text);
        let mut profile =
            parsed.map_err(|problem| Failure::usage(format!("{}: {problem}", path.display())))?;
        // Relative to the profile, so that a folder with both can be moved.
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut profile.ca_file, &mut profile.certificate_file, &mut profile.private_key_file] {
            *file = folder.join(&file);
        }
        Ok(profile)
    }

    /// Reads the text of a profile; a problem begins with the path of its key.
    fn parse(text: &str) -> Result<Self, String> {
        // Without the lines that TOML errors quote: the file may be a private key named by mistake.
        let document = toml::de::Deserializer::parse(text).map_err(|error| error.message().to_owned())?;
        serde_path_to_error::deserialize(document)
            .map_err(|error| format!("{}: {}", error.path(), error.inner().message()))
    }

    fn connectors(&self) -> Result<Vec<Connector>, Failure> {
        let endpoints = match &self.endpoints {
            Endpoints::One(endpoint) => std::slice::from_ref(endpoint),
            Endpoints::Several(endpoints) if endpoints.is_empty() => {
                return Err(Failure::usage("the profile names no endpoint"));
            }
            Endpoints::Several(endpoints) => endpoints,
        };
        let ca = read_file(&self.ca_file, PEM_BYTES_MAX)?;
        let certificate = read_file(&self.certificate_file, PEM_BYTES_MAX)?;
        let key = read_file(&self.private_key_file, PEM_BYTES_MAX)?;
        let connector = |endpoint: &String| {
            let connector = Connector::new(endpoint, &ca, &certificate, &key)?;
            Ok(match &self.server_name {
                Some(name) => connector.with_server_name(name)?,
                None => connector,
            })
        };
        endpoints.iter().map(connector).collect()
    }
}

fn is_file_name(principal: &str) -> bool {
    !principal.is_empty() && principal.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "endpoint = \"vault.example:8443\"\nserver_name = \"vault\"\nca_file = \"ca.pem\"\n\
        certificate_file = \"/certs/me.pem\"\nprivate_key_file = \"me.key\"\n";

    fn chosen(connection: &Connection) -> Option<Choice> {
        connection.choice(Some("variable.toml".into()), Some(Path::new("home"))).ok()
    }

    #[test]
    fn a_whole_profile_is_read_and_its_files_are_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.toml");
        std::fs::write(&path, WHOLE).unwrap();
        let profile = Profile::load(&path).unwrap();
        assert_eq!(profile.endpoints, Endpoints::One("vault.example:8443".to_owned()));
        assert_eq!(profile.server_name.as_deref(), Some("vault"));
        assert_eq!(profile.ca_file, folder.path().join("ca.pem"));
        assert_eq!(profile.certificate_file, Path::new("/certs/me.pem"));
        assert_eq!(profile.private_key_file, folder.path().join("me.key"));
    }

    #[test]
    fn unknown_missing_and_mistyped_keys_are_refused_by_name() {
        let refused = |text: &str| Profile::parse(text).unwrap_err();
        let unknown = refused(&format!("{WHOLE}passphrase = \"x\"\n"));
        assert!(unknown.starts_with("passphrase: unknown field"), "{unknown}");
        let missing = refused(&WHOLE.replace("ca_file", "server_name_2"));
        assert!(missing.contains("unknown field"), "{missing}");
        let missing = refused("endpoint = \"vault:1\"\n");
        assert!(missing.contains("missing field `ca_file`"), "{missing}");
        let mistyped = refused(&WHOLE.replace("\"vault\"", "7"));
        assert!(mistyped.starts_with("server_name: invalid type"), "{mistyped}");
    }

    #[test]
    fn a_private_key_named_as_the_profile_by_mistake_is_not_repeated() {
        let key =
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINotAKeyAtAll\n-----END PRIVATE KEY-----\n";
        let refused = Profile::parse(key).unwrap_err();
        assert!(!refused.contains("NotAKey") && !refused.contains("PRIVATE"), "{refused}");
    }

    #[test]
    fn the_default_profile_is_the_variable_s_and_then_the_home_s() {
        let none = Connection::default();
        assert_eq!(chosen(&none), Some(Choice::File("variable.toml".into())));
        let home = none.choice(None, Some(Path::new("home"))).unwrap();
        assert_eq!(home, Choice::File("home/.config/vaultctl/profile.toml".into()));
        let empty = none.choice(Some(OsString::new()), Some(Path::new("home"))).unwrap();
        assert_eq!(empty, home);
        assert!(none.choice(None, None).is_err());
    }

    #[test]
    fn flags_stand_for_a_profile_only_all_four() {
        let some = |name: &str| Some(PathBuf::from(name));
        let all = Connection {
            endpoints: vec!["vault:1".to_owned(), "vault:2".to_owned()],
            ca: some("ca"),
            cert: some("cert"),
            key: some("key"),
            ..Connection::default()
        };
        let both = Endpoints::Several(all.endpoints.clone());
        assert!(matches!(chosen(&all), Some(Choice::Flags(profile)) if profile.endpoints == both));
        for missing in [
            Connection { endpoints: Vec::new(), ..all.clone() },
            Connection { ca: None, ..all.clone() },
            Connection { cert: None, ..all.clone() },
            Connection { key: None, ..all.clone() },
            Connection { server_name: Some("vault".to_owned()), ..Connection::default() },
        ] {
            assert_eq!(chosen(&missing), None);
        }
    }

    #[test]
    fn a_profile_may_name_every_daemon_and_endpoints_alone_stand_for_its_own() {
        let text = WHOLE.replace("endpoint = \"vault.example:8443\"", "endpoints = [\"a:1\", \"b:2\"]");
        let several = Endpoints::Several(vec!["a:1".to_owned(), "b:2".to_owned()]);
        assert_eq!(Profile::parse(&text).unwrap().endpoints, several);
        let both = Profile::parse(&format!("endpoint = \"c:3\"\n{text}")).unwrap_err();
        assert!(both.contains("duplicate field"), "{both}");
        let none = Profile::parse(&text.replace("\"a:1\", \"b:2\"", "")).unwrap();
        assert_eq!(none.connectors().err().unwrap().to_string(), "the profile names no endpoint");
        let alone = Connection { endpoints: vec!["b:2".to_owned()], ..Connection::default() };
        assert_eq!(chosen(&alone), Some(Choice::File("variable.toml".into())));
    }

    #[test]
    fn a_vault_is_named_once() {
        let dev = Connection {
            dev: Some("folder".into()),
            principal: Some("billing".to_owned()),
            ..Connection::default()
        };
        let expected = Choice::Dev { folder: "folder".into(), principal: "billing".to_owned() };
        assert_eq!(chosen(&dev), Some(expected));
        assert_eq!(chosen(&Connection { profile: Some("p.toml".into()), ..dev.clone() }), None);
        assert_eq!(chosen(&Connection { endpoints: vec!["vault:1".to_owned()], ..dev.clone() }), None);
        assert_eq!(chosen(&Connection { principal: None, ..dev.clone() }), None);
        assert_eq!(chosen(&Connection { principal: Some("../billing".to_owned()), ..dev }), None);
    }
}
