//! The configuration: the example loads, and everything that is wrong is refused under its own path.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use vault_daemon::config::{Config, Engine, LogFormat, LogLevel, MetricsListen, SealConfig, StoreConfig};
use vault_daemon::store::postgres::{Credentials, Host};
use vault_daemon::tls::Revocation;

const LEAST: &str = r#"
[vault]
environment = "prod"
keyring_folder = "/nowhere/keyring"
anchor_file = "/nowhere/anchor/anchor"
policy_file = "/nowhere/policy.toml"
audit_origin = "vault.example.com/prod-1"
[store]
folder = "/nowhere/store"
[listen]
address = "127.0.0.1:7443"
certificate_file = "/nowhere/server.pem"
private_key_file = "/nowhere/server.key"
revocation = "crl"
[[listen.client_ca]]
name = "clients"
certificate_file = "/nowhere/clients.pem"
crl_files = ["/nowhere/clients.crl"]
"#;

fn example() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/vaultd.toml")).unwrap()
}

/// Which key is refused, and why, when this text stands in the place of that.
fn refusal(of: &str, instead: &str) -> String {
    assert_eq!(LEAST.matches(of).count(), 1, "{of}");
    Config::parse(&LEAST.replace(of, instead)).unwrap_err().to_string()
}

fn with(more: &str) -> Result<Config, String> {
    Config::parse(&format!("{LEAST}{more}")).map_err(|error| error.to_string())
}

#[test]
fn the_example_loads() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("vaultd.toml");
    fs::write(&path, example()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.vault.environment.as_str(), "prod");
    assert_eq!(config.listen.tls.client_cas[0].name, "clients");
    assert_eq!(config.listen.tls.revocation, Revocation::Crl);
    assert!(config.plan().iter().any(|line| line.contains("0.0.0.0:7443")));
}

/// What the example shows as default is the default, and every key stands in it.
#[test]
fn the_example_shows_the_defaults() {
    let spoken = example().replace("# cores = (one per processor)\n", "");
    let spoken: String = spoken
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") && !setting.starts_with("passphrase_file") => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(
        spoken.contains("\nlisten = \"127.0.0.1:9464\"\n") && spoken.contains("\nmax_milliseconds = 60000\n")
    );
    let (spoken, silent) = (Config::parse(&spoken).unwrap(), Config::parse(&example()).unwrap());
    assert_eq!(format!("{spoken:?}"), format!("{silent:?}"));
}

/// The token of the example, as it reads without its comment signs.
fn with_hsm() -> String {
    let spoken = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    example().lines().map(|line| spoken(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn an_hsm_is_checked_key_by_key() {
    let example = with_hsm();
    let config = Config::parse(&example).unwrap();
    let hsm = config.seal.hsm.clone().unwrap();
    assert_eq!(
        (hsm.token_label.as_deref(), hsm.module.to_str()),
        (Some("vault"), Some("/usr/lib/softhsm/libsofthsm2.so"))
    );
    assert!(
        config.plan().iter().any(|line| line.contains("token vault with serial number 4805e6fb5481c68f"))
    );
    let (label, serial) = ("token_label = \"vault\"\n", "token_serial = \"4805e6fb5481c68f\"\n");
    for left_out in [label, serial] {
        assert!(Config::parse(&example.replace(left_out, "")).is_ok(), "{left_out}");
    }
    let beside = "[seal]\npassphrase_file = \"/etc/vaultd/passphrase\"\n";
    for (of, instead, told) in [
        ("module = \"/usr", "module = \"usr", "seal.hsm.module: must be an absolute path"),
        ("pin_file = \"/run", "#", "seal.hsm.pin_file: is missing"),
        ("\"vault\"\n", "\"\"\n", "seal.hsm.token_label: must have 1 to 32 printable"),
        (
            "\"4805e6fb5481c68f\"",
            "\"4805e6fb5481c68f0\"",
            "seal.hsm.token_serial: must have 1 to 16 printable",
        ),
        (&[label, serial].concat(), "", "seal.hsm.token_label: is missing, and so is token_serial"),
        ("[seal]\n", beside, "seal.passphrase_file: must not stand beside seal.hsm"),
        (label, "token_labels = \"vault\"\n", "seal.hsm.token_labels: is no known key"),
    ] {
        assert_eq!(example.matches(of).count(), 1, "{of}");
        let refused = Config::parse(&example.replace(of, instead)).unwrap_err().to_string();
        assert!(refused.starts_with(told), "{refused}");
    }
}

#[test]
fn a_pin_file_is_for_its_owner_alone_and_holds_a_pin() {
    let folder = TempDir::new().unwrap();
    let mut hsm = Config::parse(&with_hsm()).unwrap().seal.hsm.unwrap();
    hsm.pin_file = folder.path().join("pin");
    let read = |content: &str, mode: u32| {
        fs::write(&hsm.pin_file, content).unwrap();
        fs::set_permissions(&hsm.pin_file, fs::Permissions::from_mode(mode)).unwrap();
        hsm.read_pin().map(|pin| pin.to_vec()).map_err(|error| error.to_string())
    };
    assert_eq!(read("1234\n", 0o600).unwrap(), b"1234");
    assert!(read("1234\n", 0o644).unwrap_err().starts_with("seal.hsm.pin_file: can be read"));
    for content in ["123\n", "", &"1".repeat(256)] {
        let refused = read(content, 0o600).unwrap_err();
        assert!(refused.starts_with("seal.hsm.pin_file: does not hold a PIN"), "{refused}");
    }
}

#[test]
fn defaults_hold_where_nothing_is_said() {
    let config = Config::parse(LEAST).unwrap();
    let StoreConfig::Embedded(store) = &config.store else { panic!("not embedded") };
    assert_eq!(store.engine, Engine::Fjall);
    assert_eq!(store.free_space_floor_bytes, 1 << 30);
    assert_eq!(config.listen.cores, None);
    assert_eq!(config.listen.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.metrics, MetricsListen::Loopback("127.0.0.1:9464".parse().unwrap()));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Info));
    assert_eq!(config.deadlines.unary_default, Duration::from_secs(5));
    assert_eq!(config.seal.read_passphrase().unwrap(), None);
}

fn postgres_example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/vaultd-postgres.toml");
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_example_with_a_database_loads_and_shows_the_defaults() {
    let config = Config::parse(&postgres_example()).unwrap();
    assert!(config.plan().iter().any(|line| line.contains("database vault on db-1.example.com:5432")));
    let StoreConfig::Postgres(silent) = config.store else { panic!("not in a database") };
    assert_eq!(silent.hosts[1], Host { name: "db-2.example.com".to_owned(), port: 5_432 });
    assert!(matches!(silent.credentials, Credentials::Password(_)));
    assert!(silent.channel_binding_required);
    let keys =
        ["channel_binding_required", "synchronous_standby_required", "connections", "answer_timeout_seconds"];
    let spoken = keys
        .iter()
        .fold(postgres_example(), |text, key| text.replace(&format!("# {key} ="), &format!("{key} =")));
    assert_ne!(spoken, postgres_example());
    let StoreConfig::Postgres(spoken) = Config::parse(&spoken).unwrap().store else { panic!("not there") };
    assert_eq!(format!("{spoken:?}"), format!("{silent:?}"));
}

#[test]
fn a_database_is_checked_key_by_key() {
    for (of, instead, told) in [
        (
            "password_file = \"/etc/vaultd/postgres-password\"",
            "",
            "store.postgres.password_file: must be there",
        ),
        (
            "password_file = \"/etc/vaultd/postgres-password\"",
            "certificate_file = \"/c\"\nprivate_key_file = \"/k\"\nchannel_binding_required = true",
            "store.postgres.channel_binding_required: must not be there",
        ),
        ("user = \"vaultd\"", "user = \"Robert'); --\"", "store.postgres.user: must have 1 to 63"),
        ("database = \"vault\"", "", "store.postgres.database: is missing"),
        ("\"db-1.example.com\", ", "", ""),
        ("\"db-1.example.com\"", "\"db-1.example.com:port\"", "store.postgres.hosts[0]: must be a name"),
        ("\"db-1.example.com\"", "\"not a name\"", "store.postgres.hosts[0]: must be a name"),
        ("\"db-1.example.com\"", "\"[2001:db8::1]:5433\"", ""),
        ("hosts = [", "hosts = [] # [", "store.postgres.hosts: must name 1 to 8"),
        ("# connections = 4", "connections = 1", "store.postgres.connections: must be from 2 to 64"),
        ("# connections = 4", "sslmode = \"disable\"", "store.postgres.sslmode: is no known key"),
        ("engine = \"postgres\"", "engine = \"fjall\"", "store.postgres: must not be there"),
        (
            "engine = \"postgres\"",
            "engine = \"postgres\"\ncache_mib = 64",
            "store.cache_mib: must not be there",
        ),
        ("engine = \"postgres\"", "engine = \"postgresql\"", "store.engine: must be fjall, sled or postgres"),
    ] {
        let example = postgres_example();
        assert_eq!(example.matches(of).count(), 1, "{of}");
        let parsed = Config::parse(&example.replace(of, instead));
        match (parsed, told) {
            (Ok(_), "") => {}
            (Err(error), told) if !told.is_empty() && error.to_string().starts_with(told) => {}
            (parsed, _) => panic!("{instead}: {:?}", parsed.err()),
        }
    }
}

#[test]
fn unknown_keys_are_refused_with_their_path() {
    assert_eq!(with("colour = 1\n").unwrap_err(), "listen.client_ca[0].colour: is no known key");
    assert_eq!(with("[colours]\n").unwrap_err(), "colours: is no known key");
    assert_eq!(with("[log]\nlevle = \"info\"\n").unwrap_err(), "log.levle: is no known key");
    assert_eq!(refusal("address =", "adress ="), "listen.adress: is no known key");
}

#[test]
fn a_refusal_names_the_key_and_never_the_value() {
    for (key, path) in [
        ("environment = \"prod\"", "vault.environment"),
        ("keyring_folder = \"/nowhere/keyring\"", "vault.keyring_folder"),
        ("audit_origin = \"vault.example.com/prod-1\"", "vault.audit_origin"),
        ("folder = \"/nowhere/store\"", "store.folder"),
        ("address = \"127.0.0.1:7443\"", "listen.address"),
        ("revocation = \"crl\"", "listen.revocation"),
        ("private_key_file = \"/nowhere/server.key\"", "listen.private_key_file"),
        ("name = \"clients\"", "listen.client_ca[0].name"),
    ] {
        // A key that is part of another's line would be found twice.
        let missing = LEAST.replacen(&format!("\n{key}\n"), "\n", 1);
        assert_eq!(Config::parse(&missing).unwrap_err().to_string(), format!("{path}: is missing"));
        let name = key.split(" = ").next().unwrap();
        let wrong =
            LEAST.replacen(&format!("\n{key}\n"), &format!("\n{name} = \"4111 1111 1111 1111\"\n"), 1);
        let error = Config::parse(&wrong).unwrap_err();
        assert_eq!(error.path(), path);
        assert!(!error.to_string().contains("4111"), "{error}");
        let wrong = LEAST.replacen(&format!("\n{key}\n"), &format!("\n{name} = 4111111111111111\n"), 1);
        let error = Config::parse(&wrong).unwrap_err();
        assert_eq!(error.to_string(), format!("{path}: has a value of the wrong type"));
    }
    let error = Config::parse("[vault]\nenvironment = 4111111111111111 x\n").unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("4111"), "{error}");
}

#[test]
fn numbers_keep_their_bounds() {
    for (section, key, least, most) in [
        ("store", "free_space_floor_mib", 512, 1_048_576),
        ("store", "cache_mib", 16, 65_536),
        ("listen", "cores", 1, 256),
        ("listen", "connections_max", 1, 65_536),
        ("listen", "streams_per_connection_max", 1, 1_024),
        ("listen", "handshake_timeout_seconds", 1, 60),
        ("listen", "idle_timeout_seconds", 10, 3_600),
        ("listen", "connection_age_max_seconds", 60, 86_400),
        ("listen", "drain_seconds", 1, 300),
    ] {
        let set = |value: u64| {
            let header = format!("[{section}]\n");
            Config::parse(&LEAST.replacen(&header, &format!("{header}{key} = {value}\n"), 1))
        };
        assert!(set(least).is_ok() && set(most).is_ok(), "{key}");
        for outside in [least - 1, most + 1] {
            assert_eq!(
                set(outside).unwrap_err().to_string(),
                format!("{section}.{key}: must be from {least} to {most}")
            );
        }
    }
    assert!(with("[deadlines]\nmax_milliseconds = 99\n").unwrap_err().contains("from 100 to 600000"));
    assert!(with("[deadlines]\nmax_milliseconds = 1000\n").unwrap_err().contains("below the other two"));
}

#[test]
fn what_the_process_reaches_is_checked_key_by_key() {
    let hardening = |text: &str| with(&format!("[hardening]\n{text}\n"));
    let strict = hardening("").unwrap().hardening;
    assert!(strict.landlock_required && strict.seccomp_required);
    let lax = hardening("landlock = \"if-available\"\nseccomp = \"off\"").unwrap().hardening;
    assert!(!lax.landlock_required && !lax.seccomp_required);
    let more = "read_paths = [\"/a\"]\nwrite_paths = [\"/b\"]\nconnect_ports = [1, 65535]";
    let told = hardening(more).unwrap().plan().pop().unwrap();
    let reached = "reads /a, writes /b, connects to port 1, connects to port 65535";
    assert_eq!(told, format!("confined: Landlock required, seccomp required, {reached}"));
    let many = vec!["1"; 33].join(", ");
    for (text, told) in [
        ("landlock = \"off\"", "hardening.landlock: must be required or if-available"),
        ("seccomp = \"if-available\"", "hardening.seccomp: must be required or off"),
        ("read_paths = [\"/a\", \"b\"]", "hardening.read_paths[1]: must be an absolute path"),
        ("write_paths = [\"/a/../b\"]", "hardening.write_paths[0]: must be an absolute path"),
        ("connect_ports = [65536]", "hardening.connect_ports[0]: must be from 1 to 65535"),
        ("connect_ports = [0]", "hardening.connect_ports[0]: must be from 1 to 65535"),
        (&format!("connect_ports = [{many}]"), "hardening.connect_ports: must not have more than 32"),
    ] {
        let error = hardening(text).unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}

#[test]
fn plaintext_stays_on_this_machine() {
    let listen = |text: &str| with(&format!("[metrics]\nlisten = \"{text}\"\n")).map(|config| config.metrics);
    assert_eq!(listen("off").unwrap(), MetricsListen::Off);
    assert_eq!(listen("[::1]:9000").unwrap(), MetricsListen::Loopback("[::1]:9000".parse().unwrap()));
    assert_eq!(listen("unix:/run/vaultd/m.sock").unwrap(), MetricsListen::Unix("/run/vaultd/m.sock".into()));
    for outside in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "[2001:db8::1]:9464"] {
        assert_eq!(
            listen(outside).unwrap_err(),
            "metrics.listen: must be a loopback address: it is plaintext"
        );
    }
    for malformed in ["localhost:9464", "127.0.0.1", "unix:relative", "", "unix:/a/../b"] {
        assert!(listen(malformed).is_err(), "{malformed}");
    }
}

#[test]
fn keys_and_anchor_lie_apart_from_the_data() {
    let keyring = |folder: &str| refusal("\"/nowhere/keyring\"", &format!("\"{folder}\""));
    for folder in ["/nowhere/store", "/nowhere/store/keyring", "/nowhere"] {
        assert!(keyring(folder).starts_with("vault.keyring_folder: must lie apart"), "{folder}");
    }
    let anchor = |file: &str| refusal("\"/nowhere/anchor/anchor\"", &format!("\"{file}\""));
    for file in ["/nowhere/store/anchor", "/nowhere/store", "/nowhere/store/deep/anchor"] {
        assert!(anchor(file).starts_with("vault.anchor_file: must lie in another"), "{file}");
    }
    assert!(anchor("relative").contains("absolute"));
    assert!(anchor("/nowhere/store/../anchor").contains("without .."));

    // A symbolic link does not make two folders of one.
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("store")).unwrap();
    symlink(folder.path().join("store"), folder.path().join("alias")).unwrap();
    let real = folder.path().join("store");
    let text = LEAST.replace("/nowhere/store", real.to_str().unwrap());
    assert!(Config::parse(&text).is_ok());
    let text = text.replace("/nowhere/keyring", folder.path().join("alias/keyring").to_str().unwrap());
    assert!(
        Config::parse(&text).unwrap_err().to_string().starts_with("vault.keyring_folder: must lie apart")
    );
}

#[test]
fn revocation_and_lists_must_agree() {
    assert!(refusal("\"crl\"", "\"none\"").starts_with("listen.revocation: must be crl or short-lived"));
    assert!(
        refusal("\"crl\"", "\"short-lived\"").starts_with("listen.client_ca[0].crl_files: must not be there")
    );
    assert!(
        refusal("crl_files = [\"/nowhere/clients.crl\"]", "")
            .starts_with("listen.client_ca[0].crl_files: must name")
    );
    let twice = "[[listen.client_ca]]\nname = \"clients\"\ncertificate_file = \"/nowhere/b.pem\"\n\
                 crl_files = [\"/x\"]\n";
    assert_eq!(with(twice).unwrap_err(), "listen.client_ca[1].name: is the name of another client CA");
    let short =
        LEAST.replace("\"crl\"", "\"short-lived\"").replace("crl_files = [\"/nowhere/clients.crl\"]", "");
    assert_eq!(Config::parse(&short).unwrap().listen.tls.revocation, Revocation::ShortLived);
}

#[test]
fn a_file_that_others_can_change_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("vaultd.toml");
    fs::write(&path, LEAST).unwrap();
    for (mode, fits) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Config::load(&path).is_ok(), fits, "{mode:o}");
    }
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("larger than 1048576 bytes"));
    assert!(Config::load(folder.path()).unwrap_err().to_string().contains("no plain file"));
    assert!(Config::load(&folder.path().join("absent")).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_passphrase_file_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("passphrase");
    let seal = SealConfig { passphrase_file: Some(path.clone()), hsm: None };
    let write = |content: &[u8], mode| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for line_end in ["", "\n", "\r\n"] {
        write(format!("correct horse battery{line_end}").as_bytes(), 0o600);
        assert_eq!(&seal.read_passphrase().unwrap().unwrap()[..], b"correct horse battery");
    }
    for mode in [0o644, 0o604, 0o660, 0o606] {
        write(b"correct horse battery", mode);
        let error = seal.read_passphrase().unwrap_err().to_string();
        assert!(error.starts_with("seal.passphrase_file: can be read or changed"), "{mode:o}: {error}");
    }
    for bad in [&b"too short"[..], &[b'x'; 1_025], b""] {
        write(bad, 0o600);
        assert!(seal.read_passphrase().unwrap_err().to_string().contains("15 to 1024 bytes"));
    }
    write(&[b'x'; 5_000], 0o600);
    assert!(seal.read_passphrase().unwrap_err().to_string().contains("larger than"));
}
