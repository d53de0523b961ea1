//! `vaultd dev`: the transcript, and the folder that it keeps.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use vault_proto::v1::DetokenizeRequest;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_tests::process::Vaultd;
use vault_tests::values::digits;

use crate::{Said, text, vaultd};

/// What the transcript puts in, as it must not be seen, and how it is shown.
const SAMPLES: [(&str, &str); 6] = [
    ("4111111111111111", "************1111"),
    ("5555555555554444", "************4444"),
    ("378282246310005", "***********0005"),
    ("6011111111111117", "************1117"),
    ("3530111333300000", "************0000"),
    ("078-05-1120", "*****1120"),
];

fn once(folder: &Path, engine: &str) -> Said {
    vaultd(&["dev", "--once", "--dir", text(folder), "--store", engine])
}

/// The tokens of a transcript, in the order of the samples.
fn tokens(transcript: &str) -> Vec<String> {
    let given = transcript.lines().filter_map(|line| line.split_once(" -> tok_"));
    given.map(|(_, rest)| format!("tok_{}", rest.split(' ').next().unwrap())).collect()
}

fn shows_every_step(engine: &str) {
    let temporary = TempDir::new().unwrap();
    let said = once(&temporary.path().join("vault"), engine);
    let transcript = &said.expect(0).out;
    assert_eq!(tokens(transcript).len(), SAMPLES.len(), "{transcript}");
    for (value, masked) in SAMPLES {
        let bare = value.replace('-', "");
        assert!(!transcript.contains(value) && !transcript.contains(&bare), "{value} is to be seen");
        assert!(transcript.contains(masked), "{masked} is missing:\n{transcript}");
    }
    // Each value in and out again, every receipt proven; and what may not be is refused.
    assert_eq!(transcript.matches("proven in a log of").count(), 2 * SAMPLES.len());
    assert_eq!(transcript.matches(", as given").count(), SAMPLES.len());
    assert!(transcript.contains("DENIED") && transcript.contains("settlement"), "{transcript}");
}

#[test]
fn the_transcript_shows_every_step_on_fjall() {
    shows_every_step("fjall");
}

#[test]
fn the_transcript_shows_every_step_on_sled() {
    shows_every_step("sled");
}

#[test]
fn a_step_that_fails_fails_the_command() {
    let temporary = TempDir::new().unwrap();
    let folder = temporary.path().join("vault");
    once(&folder, "fjall").expect(0);
    let file = folder.join("policy.toml");
    let policy = fs::read_to_string(&file).unwrap();
    // A value that has no purpose of its class; a second release in a minute that allows one.
    let purpose = "version = 1\nclasses = [\"pan\", \"ssn\"]";
    let changes = [
        (purpose, "version = 1\nclasses = [\"pan\"]", "Tokenize: DENIED"),
        ("requests_per_minute = 1_000_000", "requests_per_minute = 1", "Detokenize: QUOTA"),
    ];
    for (allowed, not, refused) in changes {
        let changed = policy.replace(allowed, not);
        assert_ne!(changed, policy);
        fs::write(&file, changed).unwrap();
        let said = once(&folder, "fjall");
        assert!(said.expect(1).err.contains(refused), "{}", said.err);
    }
}

#[test]
fn a_folder_of_anything_else_is_refused_and_left_as_it_is() {
    let temporary = TempDir::new().unwrap();
    let folder = temporary.path().join("photographs");
    fs::create_dir(&folder).unwrap();
    for name in ["picture", ".vaultd-dev"] {
        fs::write(folder.join(name), "mine").unwrap();
        let said = once(&folder, "fjall");
        assert!(said.expect(1).err.contains("is not a folder of vaultd dev"), "{}", said.err);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [name]);
        fs::remove_file(folder.join(name)).unwrap();
    }
    let file = temporary.path().join("file");
    fs::write(&file, "mine").unwrap();
    once(&file, "fjall").expect(1);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

// The client has to hear of the daemon's end while this test waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn its_own_folder_is_laid_out_as_documented_and_opened_again() {
    let temporary = TempDir::new().unwrap();
    let said = once(&temporary.path().join("vault"), "fjall");
    let kept = tokens(&said.expect(0).out);
    let vaultd = Vaultd::start(temporary.path(), "fjall", &[]);
    let folder = vaultd.vault_folder();
    let endpoint = fs::read_to_string(folder.join("endpoint")).unwrap();
    assert!(endpoint.parse::<std::net::SocketAddr>().is_ok(), "{endpoint}");
    assert!(fs::read_to_string(folder.join("certs/ca.pem")).unwrap().contains("BEGIN CERTIFICATE"));
    for principal in ["checkout", "billing", "auditor", "custodian"] {
        let part = |name: String| fs::read_to_string(folder.join("certs").join(name)).unwrap();
        assert!(part(format!("{principal}.pem")).contains("BEGIN CERTIFICATE"));
        assert!(part(format!("{principal}.key")).contains("BEGIN PRIVATE KEY"), "PKCS#8");
    }
    let mut billing = TokenizationClient::new(vaultd.connect("billing").await);
    for ((value, _), token) in SAMPLES.iter().zip(kept) {
        let request = DetokenizeRequest {
            token,
            purpose: "settlement".to_owned(),
            recipient: "acquirer".to_owned(),
            reference: "again".to_owned(),
        };
        let answer = billing.detokenize(request).await.unwrap().into_inner();
        assert_eq!(digits(answer.value.as_ref()), value.replace('-', "").as_bytes());
    }
    let ended = vaultd.stop();
    let said = fs::read_to_string(temporary.path().join("stderr")).unwrap();
    assert!(ended.success(), "{ended}: {said}");
}
