//! Everything that was done to a folder, in order.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::{Content, Image, Place};
use crate::names::{Names, Slot};

/// A file or folder of a record, whatever its name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// The recorded folder itself.
    pub(crate) const ROOT: Self = Self(0);
}

/// One step of a record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Bytes were put into a file.
    Write {
        /// Which file.
        file: NodeId,
        /// Where, from the file's beginning.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file was cut off or grown.
    Resize {
        /// Which file.
        file: NodeId,
        /// The new size.
        size: u64,
    },
    /// Names changed, all at once.
    Name(Renaming),
    /// `fsync` or `fdatasync` returned.
    Sync(NodeId),
    /// The child wrote this into its file of marks.
    Mark(Vec<u8>),
}

/// The names that one call changed.
#[derive(Clone, Debug)]
pub struct Renaming(pub(crate) Vec<Slot>);

/// A folder at the start, all of it durable, and everything that was done to it since.
#[derive(Clone, Debug)]
pub struct Record {
    /// What each file and folder was at the start; what was made later is empty.
    pub(crate) nodes: Vec<Place>,
    pub(crate) names: Names,
    pub(crate) events: Vec<Event>,
}

impl Record {
    /// A record that begins with what lies in a folder.
    pub(crate) fn start(image: Image) -> Self {
        let mut record = Self { nodes: vec![Place::Folder], names: Names::default(), events: Vec::new() };
        // A folder sorts before what lies in it.
        for (path, place) in image.0 {
            let node = record.add(place);
            if let Some(slot) = record.names.slot(&path, Some(node)) {
                record.names.apply(&slot);
            }
        }
        record
    }

    pub(crate) fn add(&mut self, place: Place) -> NodeId {
        self.nodes.push(place);
        NodeId(self.nodes.len() - 1)
    }

    /// The steps, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The folder as a power cut long after the end would leave it, had everything been synced.
    pub fn image_at_close(&self) -> Image {
        let mut names = self.names.clone();
        let mut nodes = self.nodes.clone();
        for event in &self.events {
            match event {
                Event::Name(Renaming(slots)) => slots.iter().for_each(|slot| names.apply(slot)),
                Event::Write { file, .. } | Event::Resize { file, .. } => {
                    if let Some(Place::File(content)) = nodes.get_mut(file.0) {
                        apply(content, event);
                    }
                }
                Event::Sync(_) | Event::Mark(_) => {}
            }
        }
        image(&names, &|node| nodes.get(node.0).cloned())
    }

    /// Whether the rebuilt folder is the one on disk: the record has no gap.
    ///
    /// # Errors
    /// What reading meets, and the first difference.
    pub fn prove(&self, folder: &Path) -> io::Result<()> {
        match self.image_at_close().difference(&Image::load(folder)?) {
            None => Ok(()),
            Some(difference) => Err(io::Error::other(format!("recorded and on disk: {difference}"))),
        }
    }
}

/// Does to a file what a step did.
pub(crate) fn apply(content: &mut Content, event: &Event) {
    match event {
        Event::Write { at, bytes, .. } => content.write(*at, bytes),
        Event::Resize { size, .. } => content.resize(*size),
        Event::Name(_) | Event::Sync(_) | Event::Mark(_) => {}
    }
}

/// The folder that these names and contents make.
pub(crate) fn image(names: &Names, place: &dyn Fn(NodeId) -> Option<Place>) -> Image {
    let mut image = Image::default();
    let mut folders = vec![(NodeId::ROOT, PathBuf::new())];
    while let Some((folder, path)) = folders.pop() {
        for (name, node) in names.in_folder(folder) {
            let path = path.join(name);
            let Some(place) = place(node) else { continue };
            if place == Place::Folder {
                folders.push((node, path.clone()));
            }
            image.0.insert(path, place);
        }
    }
    image
}
