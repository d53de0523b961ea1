//! A vault that shares open, as people run it: `vaultd init`, `vaultd serve`, and custodians with `vaultctl`.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vault_tests::files::{write_certificates, write_private};
use vault_tests::process::program;

use crate::command::{Said, run};

const CUSTODIANS: [&str; 3] = ["ann", "bob", "cyd"];
const START_TIMEOUT: Duration = Duration::from_secs(60);

struct Vault {
    folder: TempDir,
    address: String,
    served: Option<Child>,
}

impl Vault {
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let vault = Self { folder, address: format!("127.0.0.1:{port}"), served: None };
        for part in ["keyring", "anchor", "store"] {
            fs::create_dir(vault.path(part)).unwrap();
        }
        fs::set_permissions(vault.path("keyring"), Permissions::from_mode(0o700)).unwrap();
        write_certificates(vault.folder.path(), "tests", &[&CUSTODIANS[..], &["auditor"]].concat());
        let principals =
            CUSTODIANS.map(|name| principal(name, "custodian", "\"status\", \"unseal\", \"seal\""));
        let auditor = principal("auditor", "auditor", "\"audit-read\", \"status\"");
        let tenant = "[[tenant]]\nid = \"shop\"\nclasses = [\"pan\"]\n";
        vault.write("policy.toml", &[tenant, &principals.concat(), &auditor].concat());
        let at = |part: &str| vault.path(part).display().to_string();
        let config = format!(
            "[vault]\nenvironment = \"test\"\nkeyring_folder = \"{}\"\nanchor_file = \"{}\"\n\
             policy_file = \"{}\"\naudit_origin = \"vault.example.com/test-1\"\n\
             [store]\nengine = \"fjall\"\nfolder = \"{}\"\nfree_space_floor_mib = 512\ncache_mib = 64\n\
             [listen]\naddress = \"{}\"\ncertificate_file = \"{}\"\nprivate_key_file = \"{}\"\n\
             revocation = \"short-lived\"\n\
             [[listen.client_ca]]\nname = \"tests\"\ncertificate_file = \"{}\"\n\
             [metrics]\nlisten = \"off\"\n",
            at("keyring"),
            at("anchor/anchor"),
            at("policy.toml"),
            at("store"),
            vault.address,
            at("server.pem"),
            at("server.key"),
            at("ca.pem"),
        );
        vault.write("vaultd.toml", &config);
        vault
    }

    fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    fn write(&self, part: &str, content: &str) {
        write_private(&self.path(part), content);
    }

    /// Runs a command of `vaultd` on this vault.
    fn vaultd(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("vaultd"));
        command.args(arguments).arg("--config").arg(self.path("vaultd.toml"));
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn init(&self) -> Output {
        let custodians = CUSTODIANS.map(|name| format!("--custodian={name}={}", self.share(name).display()));
        let custodians = custodians.iter().map(String::as_str);
        self.vaultd(&["init", "--threshold", "2"].into_iter().chain(custodians).collect::<Vec<_>>())
    }

    fn serve(&mut self) {
        let errors = fs::File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        let mut command = Command::new(program("vaultd"));
        command.arg("serve").arg("--config").arg(self.path("vaultd.toml")).stderr(errors);
        self.served = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            assert!(begun.elapsed() < START_TIMEOUT, "{}", fs::read_to_string(self.path("stderr")).unwrap());
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends the daemon as an operator does.
    fn stop(&mut self) {
        let mut served = self.served.take().unwrap();
        let pid = i32::try_from(served.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(served.wait().unwrap().success());
    }

    fn share(&self, custodian: &str) -> PathBuf {
        self.path(&format!("{custodian}.share"))
    }

    /// Runs `vaultctl` as a principal; answers are JSON.
    fn ctl(&self, principal: &str, arguments: &[&str]) -> Said {
        let file = |name: String| self.path(&name).display().to_string();
        let (ca, cert, key) =
            (file("ca.pem".into()), file(format!("{principal}.pem")), file(format!("{principal}.key")));
        let connection = ["--endpoint", &self.address, "--ca", &ca, "--cert", &cert, "--key", &key];
        run(&[&connection, &["--output", "json"][..], arguments].concat(), "")
    }

    fn give(&self, custodian: &str, ceremony: &str) -> Said {
        let share = self.share(custodian);
        let give = ["custody", "share", "--accept-duties", "--ceremony", ceremony, "--from"];
        self.ctl(custodian, &[&give[..], &[share.to_str().unwrap()]].concat())
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if let Some(mut served) = self.served.take() {
            let _ = served.kill();
            let _ = served.wait();
        }
    }
}

fn principal(name: &str, role: &str, rights: &str) -> String {
    format!(
        "[[principal]]\nid = \"{name}\"\nidentity = \"uri:spiffe://tests/{name}\"\ntenant = \"*\"\n\
         role = \"{role}\"\nrights = [{rights}]\n"
    )
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    inside.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

#[test]
fn custodians_open_a_vault_that_vaultd_init_sealed_by_shares() {
    let mut vault = Vault::new();
    let created = vault.init();
    assert!(created.status.success(), "{}", said(&created));
    let shares = CUSTODIANS.map(|name| fs::read_to_string(vault.share(name)).unwrap());
    for name in CUSTODIANS {
        assert_eq!(fs::metadata(vault.share(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(shares.iter().all(|share| !said(&created).contains(share.trim())));
    let again = vault.init();
    assert!(!again.status.success() && said(&again).contains("there is a vault here already"));
    assert_eq!(CUSTODIANS.map(|name| fs::read_to_string(vault.share(name)).unwrap()), shares);

    // Twice: what opens the vault opens it again after a restart.
    for round in ["first", "second"] {
        vault.serve();
        assert_eq!(vault.ctl("ann", &["custody", "status"]).text("state"), "sealed", "{round}");
        let ceremony = vault.ctl("ann", &["custody", "begin"]).text("ceremony");
        assert_eq!(vault.give("ann", &ceremony).text("state"), "open");
        assert!(vault.give("ann", &ceremony).expect(1).err.contains("GAVE_ALREADY"));
        assert_eq!(vault.ctl("cyd", &["custody", "status"]).text("shares_given"), "ann 1");
        let complete = vault.give("cyd", &ceremony);
        assert_eq!(
            (complete.text("state"), complete.text("given")),
            ("complete".into(), "ann 1, cyd 3".into())
        );
        assert_eq!(vault.ctl("bob", &["custody", "status"]).text("state"), "unsealed", "{round}");
        vault.stop();
    }

    let share_file = |name: &str| format!("--share-file={}", vault.share(name).display());
    let (ann, bob) = (share_file("ann"), share_file("bob"));
    let checked = vault.vaultd(&["check", &ann, &bob]);
    assert!(checked.status.success(), "{}", said(&checked));
    for (given, problem) in
        [(vec![&ann], "1 shares are given and 2 are needed"), (vec![&ann, &ann], "share 1 is there already")]
    {
        let arguments: Vec<&str> =
            ["check"].into_iter().chain(given.into_iter().map(String::as_str)).collect();
        let refused = vault.vaultd(&arguments);
        assert!(!refused.status.success() && said(&refused).contains(problem), "{}", said(&refused));
    }

    // Neither keyring nor store nor log knows a share, whole or in its letters.
    let secrets = shares.map(|share| share.split('_').nth(5).unwrap().to_owned());
    let others =
        files(vault.folder.path()).into_iter().filter(|file| file.extension().is_none_or(|e| e != "share"));
    for file in others {
        let content = fs::read(&file).unwrap();
        let holds = |secret: &String| content.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!secrets.iter().any(holds), "{}", file.display());
    }
}

/// What `age --decrypt` reads with this key.
fn decrypted(key: &Path, file: &Path) -> String {
    let opened = Command::new("age").arg("--decrypt").arg("--identity").arg(key).arg(file).output().unwrap();
    assert!(opened.status.success(), "{}", said(&opened));
    String::from_utf8(opened.stdout).unwrap()
}

#[test]
fn a_share_that_was_encrypted_opens_the_vault_for_whoever_has_the_key() {
    present();
    let mut vault = Vault::new();
    let recipients = ["ann", "bob"].map(|name| {
        let made = Command::new("age-keygen").arg("-o").arg(vault.path(&format!("{name}.age"))).output();
        let made = said(&made.unwrap());
        let recipient = made.lines().find_map(|line| line.strip_prefix("Public key: "));
        format!("--recipient={name}={}", recipient.unwrap_or_else(|| panic!("{made}")))
    });
    let (ann, cyd) = (vault.share("ann"), vault.share("cyd"));
    let files = [("ann", &ann), ("cyd", &cyd)];
    let files = files.map(|(name, file)| format!("--custodian={name}={}", file.display()));
    // Bob's goes nowhere but to standard output.
    let sealed = ["init", "--threshold=2", &files[0], "--custodian=bob", &files[1]];
    let stranger = recipients[0].replace("ann", "dan");
    let refused = vault.vaultd(&[&sealed[..], &[&stranger]].concat());
    assert!(!refused.status.success() && said(&refused).contains("dan: no custodian"), "{}", said(&refused));
    assert!(!ann.exists(), "no share is dealt for nothing");
    let made = vault.vaultd(&[&sealed[..], &[&recipients[0], &recipients[1]]].concat());
    assert!(made.status.success(), "{}", said(&made));
    let printed = String::from_utf8(made.stdout).unwrap();
    assert!(!printed.contains("vaultshare1_"), "{printed}");
    assert!(printed.contains("Share 2 of 3, which bob alone can decrypt:"), "{printed}");
    let armor = printed
        .split_inclusive('\n')
        .skip_while(|line| !line.contains("BEGIN AGE"))
        .take_while(|line| !line.is_empty() && *line != "\n");
    vault.write("bob.letter", &armor.collect::<String>());

    assert!(fs::read_to_string(&ann).unwrap().starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    assert!(fs::read_to_string(&cyd).unwrap().starts_with("vaultshare1_"), "cyd has no key");
    let other =
        Command::new("age").arg("-d").arg("-i").arg(vault.path("bob.age")).arg(&ann).output().unwrap();
    assert!(!other.status.success(), "bob reads what is ann's");
    vault.serve();
    let ceremony = vault.ctl("ann", &["custody", "begin"]).text("ceremony");
    assert!(vault.give("ann", &ceremony).expect(2).err.contains("is not one line"), "encrypted it is none");
    let file = ann.display().to_string();
    let silent = vault.ctl("ann", &["custody", "share", "--ceremony", &ceremony, "--from", &file]);
    assert!(silent.expect(2).err.contains("I keep my share secret"), "{}", silent.err);
    for (name, file) in [("ann", ann), ("bob", vault.path("bob.letter"))] {
        let share = decrypted(&vault.path(&format!("{name}.age")), &file);
        vault.write(&format!("{name}.share"), &share);
    }
    assert_eq!(vault.give("ann", &ceremony).text("state"), "open");
    assert_eq!(vault.give("bob", &ceremony).text("state"), "complete");
    vault.stop();
}

/// The program that custodians decrypt with.
fn present() {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("vaultctl/install");
    let found = Command::new(install).output().unwrap();
    assert!(found.status.success(), "{}", said(&found));
}

#[test]
fn after_a_reseal_only_the_new_shares_open_the_vault() {
    let mut vault = Vault::new();
    assert!(vault.init().status.success());
    let share_file = |name: &str| format!("--share-file={}", vault.share(name).display());
    let (ann, bob, cyd) = (share_file("ann"), share_file("bob"), share_file("cyd"));
    let dealt =
        |name: &str| format!("--custodian={name}={}", vault.path(&format!("new-{name}.share")).display());
    let (new_ann, new_dan) = (dealt("ann"), dealt("dan"));
    let reseal = |given: [&str; 2]| {
        vault.vaultd(&["reseal", given[0], given[1], "--threshold", "2", &new_ann, &new_dan])
    };
    fs::set_permissions(vault.share("bob"), Permissions::from_mode(0o644)).unwrap();
    let exposed = reseal([&ann, &bob]);
    assert!(!exposed.status.success() && said(&exposed).contains("chmod 600"), "{}", said(&exposed));
    fs::set_permissions(vault.share("bob"), Permissions::from_mode(0o600)).unwrap();
    let refused = reseal([&ann, &ann]);
    assert!(
        !refused.status.success() && said(&refused).contains("share 1 is there already"),
        "{}",
        said(&refused)
    );
    assert!(!vault.path("new-ann.share").exists(), "no share is dealt for nothing");
    let resealed = reseal([&bob, &cyd]);
    assert!(resealed.status.success(), "{}", said(&resealed));

    let old = vault.vaultd(&["check", &ann, &bob]);
    assert!(!old.status.success() && said(&old).contains("share 1 is of another set"), "{}", said(&old));
    for name in ["ann", "dan"] {
        fs::rename(vault.path(&format!("new-{name}.share")), vault.share(name)).unwrap();
    }
    let (ann, dan) = (share_file("ann"), share_file("dan"));
    let checked = vault.vaultd(&["check", &ann, &dan]);
    assert!(checked.status.success(), "{}", said(&checked));

    // To a passphrase, which is no share's business any more.
    vault.write("passphrase", "correct horse battery staple\n");
    let passphrase = vault.path("passphrase").display().to_string();
    let resealed = vault.vaultd(&["reseal", &ann, &dan, "--new-passphrase-file", &passphrase]);
    assert!(resealed.status.success(), "{}", said(&resealed));
    vault.serve();
    let opened = vault.ctl("bob", &["unseal", "--from", &passphrase]);
    assert_eq!((opened.text("state"), opened.text("seal_kind")), ("unsealed".into(), "passphrase".into()));
    let log = vault.ctl("auditor", &["audit", "tail", "--start", "0"]);
    let count = |action: &str| log.out.matches(&format!("\"action\":\"{action}\"")).count();
    assert_eq!((count("reseal-begun"), count("resealed")), (2, 2), "{}", log.out);
    vault.stop();
}
