//! What a power cut leaves.
//!
//! Durable is only what came before a sync of the same file or folder that returned before the cut;
//! `sync_file_range` is no sync, and that of a file keeps no name. Of all else anything may have reached the
//! disk, in any order, within these laws:
//!
//! - a unit (512 B or 4 KiB) of a file holds what it held after one of the writes to it: the page cache does
//!   not un-write an earlier one of two writes to the same unit and keep the later;
//! - a size is one that the file had; what was written beyond it is lost, what was not written within it
//!   reads as zeros;
//! - what a shortening cut off does not come back once the new size is there, and what is written behind a
//!   shortening that is lost is lost with it;
//! - a name stands for one of the things that it stood for; a renaming is there as a whole or not at all.

use crate::dice::Dice;
use crate::image::{Content, Image, Place};
use crate::names::Names;
use crate::record::{Event, NodeId, Record, Renaming, apply, image};

const SECTOR: u64 = 512;
const BLOCK: u64 = 4096;

impl Record {
    /// A folder that a power cut before step `at` could have left. The seed decides which of them.
    pub fn cut(&self, at: usize, seed: u64) -> Image {
        let past = self.events.get(..at).unwrap_or(&self.events);
        let mut dice = Dice::new(seed);
        let names = self.surviving_names(past, &mut dice);
        // Now and then all files share one fate, as when the disk's cache was lost or kept as a whole.
        let shared = (dice.below(3) == 0).then(|| Fate::pick(&mut dice));
        let seed = dice.roll();
        image(&names, &|node| {
            let start = self.nodes.get(node.0)?;
            let Place::File(content) = start else { return Some(Place::Folder) };
            let mut dice = Dice::new(seed ^ (node.0 as u64).wrapping_mul(0x9e37_79b9));
            let fate = shared.unwrap_or_else(|| Fate::pick(&mut dice));
            Some(Place::File(surviving_content(content.clone(), past, node, fate, &mut dice)))
        })
    }

    fn surviving_names(&self, past: &[Event], dice: &mut Dice) -> Names {
        let renamings: Vec<(usize, &Renaming)> = past
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match event {
                Event::Name(renaming) => Some((at, renaming)),
                _ => None,
            })
            .collect();
        let last = renamings.len();
        let fate = dice.below(4);
        let prefix = dice.below(last + 1);
        let mut names = self.names.clone();
        for (number, (at, Renaming(slots))) in renamings.into_iter().enumerate() {
            let durable = slots.iter().all(|slot| synced_after(past, at, slot.folder));
            let kept = match fate {
                0 => false,
                1 => true,
                2 => number < prefix,
                _ => dice.below(2) == 0,
            };
            if durable || kept {
                slots.iter().for_each(|slot| names.apply(slot));
            }
        }
        names
    }
}

fn synced_after(past: &[Event], at: usize, node: NodeId) -> bool {
    let since = past.get(at..).unwrap_or_default();
    since.iter().any(|event| matches!(event, Event::Sync(synced) if *synced == node))
}

/// What happens to the changes of a file that were not synced.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// All up to one, which is torn at a unit.
    InOrder(u64),
    /// Each unit holds a version of its own.
    Scattered(u64),
}

impl Fate {
    fn pick(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::Lost,
            1 => Self::Kept,
            2 => Self::InOrder(SECTOR),
            3 => Self::InOrder(BLOCK),
            4 => Self::Scattered(SECTOR),
            _ => Self::Scattered(BLOCK),
        }
    }
}

fn surviving_content(
    mut content: Content,
    past: &[Event],
    node: NodeId,
    fate: Fate,
    dice: &mut Dice,
) -> Content {
    let is_sync = |event: &Event| matches!(event, Event::Sync(synced) if *synced == node);
    let synced = past.iter().rposition(is_sync).unwrap_or(0);
    let (before, since) = past.split_at(synced);
    let own = |event: &&Event| match event {
        Event::Write { file, .. } | Event::Resize { file, .. } => *file == node,
        _ => false,
    };
    before.iter().filter(own).for_each(|event| apply(&mut content, event));
    let open: Vec<&Event> = since.iter().filter(own).collect();
    match fate {
        Fate::Lost => {}
        Fate::Kept => open.iter().for_each(|event| apply(&mut content, event)),
        Fate::InOrder(unit) => in_order(&mut content, &open, unit, dice),
        Fate::Scattered(unit) => scattered(&mut content, &open, unit, dice),
    }
    content
}

/// Keeps a number of changes and the first units of the next.
fn in_order(content: &mut Content, open: &[&Event], unit: u64, dice: &mut Dice) {
    let whole = dice.below(open.len() + 1);
    open.iter().take(whole).for_each(|event| apply(content, event));
    if let Some(Event::Write { at, bytes, .. }) = open.get(whole) {
        let pieces: Vec<_> = pieces(*at, bytes, unit).collect();
        let kept = dice.below(pieces.len());
        let size = content.size();
        pieces.into_iter().take(kept).for_each(|(at, piece)| content.write(at, piece));
        // The new size may be there before all of the data, or not yet.
        let full = size.max(at + bytes.len() as u64);
        match dice.below(3) {
            0 => content.resize(size),
            1 => content.resize(full),
            _ => {}
        }
    }
}

/// Gives each unit and the size a version of its own.
fn scattered(content: &mut Content, open: &[&Event], unit: u64, dice: &mut Dice) {
    let sizes = sizes(content.size(), open);
    let version = version(open.len(), dice);
    let seed = dice.roll();
    let mut cut_off = u64::MAX;
    for (number, event) in open.iter().enumerate() {
        match event {
            Event::Write { at, bytes, .. } => {
                for (at, piece) in pieces(*at, bytes, unit).filter(|(at, _)| *at < cut_off) {
                    let mut dice = Dice::new(seed ^ (at / unit).wrapping_mul(0xd134_2543_de82_ef95));
                    if number < self::version(open.len(), &mut dice) {
                        content.write(at, piece);
                    }
                }
            }
            Event::Resize { size, .. } if sizes.get(number).is_some_and(|before| size < before) => {
                if number < version {
                    content.resize(*size);
                } else {
                    cut_off = cut_off.min(*size);
                }
            }
            _ => {}
        }
    }
    content.resize(sizes.get(version).copied().unwrap_or_default());
}

/// How many of so many changes are there: none, all, or any number.
fn version(count: usize, dice: &mut Dice) -> usize {
    match dice.below(4) {
        0 => 0,
        1 | 2 => count,
        _ => dice.below(count + 1),
    }
}

/// The sizes before each change and after the last.
fn sizes(start: u64, open: &[&Event]) -> Vec<u64> {
    let mut sizes = vec![start];
    let mut size = start;
    for event in open {
        size = match event {
            Event::Write { at, bytes, .. } => size.max(at + bytes.len() as u64),
            Event::Resize { size, .. } => *size,
            _ => size,
        };
        sizes.push(size);
    }
    sizes
}

/// A write as what falls into each unit.
fn pieces(at: u64, bytes: &[u8], unit: u64) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (at, bytes);
    std::iter::from_fn(move || {
        let room = usize::try_from(unit - at % unit).unwrap_or(usize::MAX);
        let (piece, later) = rest.split_at(rest.len().min(room));
        let found = (at, piece);
        at += piece.len() as u64;
        rest = later;
        (!found.1.is_empty()).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may stop loudly")]

    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::names::Slot;

    const SEEDS: u64 = 2_000;
    const FILE: NodeId = NodeId(1);

    /// An empty file `f`, durable, and what is done to it and its folder.
    fn record(events: Vec<Event>) -> Record {
        let empty = Image([("f".into(), Place::File(Content::default()))].into());
        let mut record = Record::start(empty);
        record.nodes.push(Place::File(Content::default()));
        record.events = events;
        record
    }

    fn write(at: u64, byte: u8, length: usize) -> Event {
        Event::Write { file: FILE, at, bytes: vec![byte; length] }
    }

    fn bytes(image: &Image, name: &str) -> Option<Vec<u8>> {
        let Some(Place::File(content)) = image.0.get(Path::new(name)) else { return None };
        let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
        for (at, page) in content.pages() {
            let at = usize::try_from(at).unwrap();
            let length = page.len().min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&page[..length]);
        }
        Some(bytes)
    }

    /// All that cuts at the end leave of `f`.
    fn outcomes(events: &[Event]) -> BTreeSet<Vec<u8>> {
        let record = record(events.to_vec());
        (0..SEEDS).map(|seed| bytes(&record.cut(events.len(), seed), "f").unwrap()).collect()
    }

    #[test]
    fn what_was_synced_is_always_there() {
        let events = [write(0, 1, 5_000), write(700, 2, 10), Event::Sync(FILE)];
        let expected = bytes(&record(events.to_vec()).image_at_close(), "f").unwrap();
        assert_eq!(outcomes(&events), BTreeSet::from([expected]));
    }

    #[test]
    fn a_sync_of_another_file_keeps_nothing() {
        let found = outcomes(&[write(0, 1, 100), Event::Sync(NodeId(2)), Event::Sync(NodeId::ROOT)]);
        assert!(found.contains(&vec![]) && found.contains(&vec![1; 100]), "{found:?}");
    }

    #[test]
    fn a_write_is_lost_kept_torn_and_grown_without_its_data() {
        let found = outcomes(&[write(0, 1, 2_048)]);
        let torn = |kept: usize, size: usize| {
            let mut bytes = vec![1; kept];
            bytes.resize(size, 0);
            bytes
        };
        for expected in [torn(0, 0), torn(2_048, 2_048), torn(512, 2_048), torn(1_024, 1_024), torn(0, 2_048)]
        {
            assert!(found.contains(&expected), "{} bytes", expected.len());
        }
        let whole = |bytes: &Vec<u8>| bytes.chunks(512).all(|unit| unit.iter().all(|byte| *byte == unit[0]));
        assert!(found.iter().all(whole), "a unit is never torn");
    }

    #[test]
    fn writes_are_reordered_but_never_within_a_unit() {
        let apart = outcomes(&[write(0, 1, 512), write(8_192, 2, 512)]);
        assert!(apart.iter().any(|bytes| bytes.len() > 8_192 && bytes[0] == 0 && bytes[8_192] == 2));
        let together = outcomes(&[write(0, 1, 100), write(100, 2, 100)]);
        assert!(together.iter().all(|bytes| bytes.get(100) != Some(&2) || bytes[0] == 1), "{together:?}");
    }

    #[test]
    fn what_a_durable_shortening_cut_off_never_comes_back() {
        let shortened = [
            write(0, 1, 8_192),
            Event::Sync(FILE),
            Event::Resize { file: FILE, size: 512 },
            write(4_096, 2, 512),
        ];
        let found = outcomes(&shortened);
        let old_and_new = |bytes: &&Vec<u8>| bytes.get(1_024) == Some(&1) && bytes.get(4_096) == Some(&2);
        assert_eq!(found.iter().find(old_and_new), None, "behind a lost shortening");
        assert!(found.contains(&vec![1; 512]) && found.contains(&vec![1; 8_192]));
    }

    #[test]
    fn names_need_a_sync_of_their_folder_and_renamings_are_whole() {
        let second = NodeId(2);
        let slot = |name: &str, node| Slot { folder: NodeId::ROOT, name: name.into(), node };
        let made = Event::Name(Renaming(vec![slot("new", Some(second))]));
        let content = Event::Write { file: second, at: 0, bytes: vec![7; 9] };
        let renamed = Event::Name(Renaming(vec![slot("new", None), slot("f", Some(second))]));
        let events = vec![made, content, Event::Sync(second), renamed, Event::Sync(NodeId::ROOT)];
        let record = record(events);
        let names = |at: usize| -> BTreeSet<_> {
            let cut = |seed| record.cut(at, seed);
            (0..SEEDS).map(cut).map(|image| (bytes(&image, "f"), bytes(&image, "new"))).collect()
        };
        let (old, new) = (Some(vec![]), Some(vec![7; 9]));
        let before = (old.clone(), None);
        let between = (old, new.clone());
        let after = (new, None);
        assert_eq!(names(3), BTreeSet::from([before.clone(), between.clone()]), "the file is synced");
        assert_eq!(names(4), BTreeSet::from([before, between, after.clone()]), "renamed");
        assert_eq!(names(5), BTreeSet::from([after]), "the folder is synced");
    }
}
