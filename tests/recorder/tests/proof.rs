//! The recorder proves itself: a folder rebuilt from a record is the one on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::{NamedTempFile, TempDir};
use vault_recorder::{Dice, Event, Image, Traced, trace};

const WORK: &str = "VAULT_RECORDED_WORK";
const FOLDER: &str = "VAULT_RECORDED_FOLDER";
const MARKS: &str = "VAULT_RECORDED_MARKS";

/// Runs this very program as a child that does one kind of work.
fn traced(work: &str, folder: &Path) -> io::Result<Traced> {
    let outside = TempDir::new().unwrap();
    let marks = outside.path().canonicalize().unwrap().join("marks");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "the_recorded_child"]);
    command.env(WORK, work).env(FOLDER, folder).env(MARKS, &marks);
    trace(command.stdout(Stdio::null()).stderr(Stdio::null()), folder, &marks)
}

#[test]
#[ignore = "the other tests start it as a process of its own"]
fn the_recorded_child() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    match env::var(WORK).unwrap().as_str() {
        "everything" => everything(&folder),
        "threads" => threads(&folder),
        "link" => fs::hard_link(folder.join("old"), folder.join("linked")).unwrap(),
        "copy" => _ = fs::copy(folder.join("old"), folder.join("copied")).unwrap(),
        "program" => _ = Command::new("true").status().unwrap(),
        "crash" => std::process::abort(),
        other => panic!("unknown work {other}"),
    }
}

fn everything(folder: &Path) {
    fs::create_dir_all(folder.join("a/b")).unwrap();
    let mut file = File::create(folder.join("a/b/one")).unwrap();
    file.write_all(&[1; 10_000]).unwrap();
    file.write_at(&[2; 100], 5_000).unwrap();
    file.seek(SeekFrom::Start(20_000)).unwrap();
    assert_eq!(file.write_vectored(&[IoSlice::new(&[3; 30]), IoSlice::new(&[4; 40])]).unwrap(), 70);
    file.set_len(15_000).unwrap();
    file.sync_data().unwrap();
    OpenOptions::new().append(true).open(folder.join("a/b/one")).unwrap().write_all(b"end").unwrap();
    let mut marks = File::create(env::var_os(MARKS).unwrap()).unwrap();
    marks.write_all(b"half").unwrap();
    fs::write(folder.join("old"), b"written over").unwrap();
    fs::rename(folder.join("a/b"), folder.join("moved")).unwrap();
    let mut temporary = NamedTempFile::new_in(folder).unwrap();
    temporary.write_all(b"renamed past the C library").unwrap();
    temporary.persist(folder.join("kept")).unwrap();
    drop(NamedTempFile::new_in(folder).unwrap());
    let unnamed = File::create(folder.join("unnamed")).unwrap();
    fs::remove_file(folder.join("unnamed")).unwrap();
    (&unnamed).write_all(b"nobody sees this").unwrap();
    fs::remove_dir(folder.join("a")).unwrap();
    env::set_current_dir(folder).unwrap();
    fs::write("relative", b"path").unwrap();
    File::open(folder).unwrap().sync_all().unwrap();
}

/// Four threads on one descriptor and on files of their own.
fn threads(folder: &Path) {
    let shared = File::create(folder.join("shared")).unwrap();
    std::thread::scope(|scope| {
        for number in 0..4_u8 {
            let mut shared = &shared;
            scope.spawn(move || {
                let mut dice = Dice::new(number.into());
                let own = File::create(folder.join(number.to_string())).unwrap();
                for _ in 0..100 {
                    shared.write_all(&vec![number; dice.below(300)]).unwrap();
                    own.write_at(&vec![number; dice.below(9_000)], dice.below(50_000) as u64).unwrap();
                    own.sync_data().unwrap();
                }
            });
        }
    });
}

fn folder_with_a_file() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("old"), [9; 5_000]).unwrap();
    folder
}

#[test]
fn the_record_rebuilds_the_folder() {
    for work in ["everything", "threads"] {
        let folder = folder_with_a_file();
        let before = Image::load(folder.path()).unwrap();
        let Traced { record, code } = traced(work, folder.path()).unwrap();
        assert_eq!(code, Some(0), "{work}");
        record.prove(folder.path()).unwrap();
        assert_eq!(record.cut(0, 1), before, "nothing was done before the first step");
        let copy = TempDir::new().unwrap();
        record.image_at_close().store(copy.path()).unwrap();
        assert_eq!(Image::load(copy.path()).unwrap(), Image::load(folder.path()).unwrap());
    }
}

#[test]
fn what_is_done_behind_the_record_shows() {
    let folder = folder_with_a_file();
    let Traced { record, .. } = traced("everything", folder.path()).unwrap();
    let file = OpenOptions::new().write(true).open(folder.path().join("kept")).unwrap();
    file.write_at(b"R", 0).unwrap();
    assert!(record.prove(folder.path()).is_err());
}

#[test]
fn marks_stand_between_the_steps() {
    let folder = folder_with_a_file();
    let Traced { record, .. } = traced("everything", folder.path()).unwrap();
    let mark = record.events().iter().position(|event| matches!(event, Event::Mark(text) if text == b"half"));
    let mark = mark.unwrap();
    let is_sync = |event: &Event| matches!(event, Event::Sync(_));
    assert_eq!(record.events()[..mark].iter().filter(|event| is_sync(event)).count(), 1);
    assert_eq!(record.events()[mark..].iter().filter(|event| is_sync(event)).count(), 1);
}

#[test]
fn what_the_record_cannot_hold_is_refused() {
    let cases = [("link", "RefusedAt"), ("copy", "RefusedOn"), ("program", "another program")];
    for (work, why) in cases {
        let folder = folder_with_a_file();
        let error = traced(work, folder.path()).unwrap_err().to_string();
        assert!(error.contains(why), "{work}: {error}");
    }
}

#[test]
fn a_child_that_dies_has_a_record_without_an_exit_code() {
    let folder = folder_with_a_file();
    assert_eq!(traced("crash", folder.path()).unwrap().code, None);
}
