//! Which name stands for which file or folder.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::record::NodeId;

/// A name in a folder, and what it stands for from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Slot {
    pub(crate) folder: NodeId,
    pub(crate) name: OsString,
    pub(crate) node: Option<NodeId>,
}

/// All names below the recorded folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<(NodeId, OsString), NodeId>);

impl Names {
    pub(crate) fn apply(&mut self, slot: &Slot) {
        let place = (slot.folder, slot.name.clone());
        match slot.node {
            Some(node) => _ = self.0.insert(place, node),
            None => _ = self.0.remove(&place),
        }
    }

    /// What a path from the recorded folder stands for.
    pub(crate) fn find(&self, path: &Path) -> Option<NodeId> {
        path.iter().try_fold(NodeId::ROOT, |folder, name| self.child(folder, name))
    }

    fn child(&self, folder: NodeId, name: &OsStr) -> Option<NodeId> {
        self.0.get(&(folder, name.to_owned())).copied()
    }

    /// The slot that a path names; `None` when its folder is not there.
    pub(crate) fn slot(&self, path: &Path, node: Option<NodeId>) -> Option<Slot> {
        let folder = self.find(path.parent()?)?;
        Some(Slot { folder, name: path.file_name()?.to_owned(), node })
    }

    pub(crate) fn in_folder(&self, folder: NodeId) -> impl Iterator<Item = (&OsString, NodeId)> {
        let all = (folder, OsString::new())..;
        self.0
            .range(all)
            .take_while(move |((found, _), _)| *found == folder)
            .map(|((_, name), node)| (name, *node))
    }
}
