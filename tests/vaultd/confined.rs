//! A daemon at work reaches what its configuration names, and makes the system calls that it needs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Output;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use tempfile::TempDir;
use vault_tests::files::write_private;
use vault_tests::process::program;

use crate::production::{Host, POLICY};
use crate::text;

/// `landlock_create_ruleset(2)`, the same on every processor.
const LANDLOCK_CREATE_RULESET: i64 = 444;
const ENOSYS: u32 = 38;

#[test]
fn every_thread_of_a_daemon_is_confined_from_the_start() {
    let host = Host::new();
    host.vaultd(&["init"], true).expect(0);
    let serving = host.serve();
    host.unseal().expect(0);
    host.tokenize().expect(0);
    let tasks = fs::read_dir(format!("/proc/{}/task", serving.child.id())).unwrap();
    let statuses: Vec<String> =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect();
    assert!(statuses.len() > 3, "{} threads", statuses.len());
    for (status, line) in
        statuses.iter().flat_map(|status| ["Seccomp:\t2", "NoNewPrivs:\t1"].map(|line| (status, line)))
    {
        assert!(status.contains(line), "no {line} in {status}");
    }
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"event\":\"calls_confined\""), "{log}");
    assert!(log.contains("\"event\":\"files_confined\",\"kind\":\"Landlock "), "{log}");
}

/// A policy that is good, and that anybody else could read: only where it lies keeps the daemon from it.
#[test]
fn a_file_beyond_the_folders_of_the_configuration_is_out_of_reach() {
    let (host, elsewhere) = (Host::new(), TempDir::new().unwrap());
    host.vaultd(&["init"], true).expect(0);
    let serving = host.serve();
    host.unseal().expect(0);
    let (there, policy) = (elsewhere.path().join("policy.toml"), host.path("policy.toml"));
    write_private(&there, POLICY.replace("[\"tokenize\", \"prove\"]\nclasses = [\"pan\"]", "[\"prove\"]"));
    fs::remove_file(&policy).unwrap();
    symlink(&there, &policy).unwrap();
    serving.signal(Signal::HUP);
    let alarms = |line: &str| line.strip_prefix("vaultd_alarms_total ").is_some_and(|count| count != "0");
    wait_for(|| host.http("/metrics").lines().any(alarms));
    host.tokenize().expect(0);
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("policy_reload_failed") && log.contains("cannot be read"), "{log}");
    // Nothing else is wrong with it: rules that are made anew know where the link leads.
    let serving = host.serve();
    host.unseal().expect(0);
    assert!(host.tokenize().expect(1).err.contains("DENIED"));
    assert_eq!(serving.stop().0, Some(0));
}

#[test]
fn without_landlock_a_daemon_starts_only_where_its_configuration_says_so() {
    let host = Host::new();
    host.vaultd(&["init"], true).expect(0);
    let refused = on_a_kernel_without_landlock(&host, "required");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("hardening.landlock: the kernel has no Landlock"), "{said}");
    // With a certificate that is none it ends by itself, later.
    host.write("server.pem", "no certificate");
    let warned = on_a_kernel_without_landlock(&host, "if-available");
    let said = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(said.contains("files_not_confined") && said.contains("calls_confined"), "{said}");
    assert!(said.contains("listen: "), "{said}");
}

/// Runs `serve` to its end where the kernel seems to have no Landlock.
fn on_a_kernel_without_landlock(host: &Host, landlock: &str) -> Output {
    host.write("vaultd.toml", &format!("{}[hardening]\nlandlock = \"{landlock}\"\n", host.config("prod")));
    let rules = BTreeMap::from([(LANDLOCK_CREATE_RULESET, Vec::new())]);
    let processor = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let missing = SeccompAction::Errno(ENOSYS);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, processor).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let mut command = std::process::Command::new(program("vaultd"));
    command.args(["serve", "--config", text(&host.path("vaultd.toml"))]);
    // A thread of its own, since it keeps the filter, as does what it starts.
    let run = move || {
        apply_filter(&filter).unwrap();
        command.output().unwrap()
    };
    thread::spawn(run).join().unwrap()
}

fn wait_for(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came of it");
        sleep(Duration::from_millis(20));
    }
}
