//! A folder as it is or as it could be: names, sizes, contents.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

const ZEROS: Page = [0; PAGE as usize];

/// The bytes of a file. Holes take no memory.
#[derive(Clone, Debug, Default)]
pub struct Content {
    size: u64,
    pages: BTreeMap<u64, Box<Page>>,
}

impl Content {
    /// Bytes from the first to the end.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Puts bytes at a place, growing the file if need be.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let within = (at % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - within));
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Box::new(ZEROS));
            if let Some(target) = page.get_mut(within..within + now.len()) {
                target.copy_from_slice(now);
            }
            at += now.len() as u64;
            rest = later;
        }
        self.size = self.size.max(at);
    }

    /// Cuts the file off, or lets it grow by zeros.
    pub fn resize(&mut self, size: u64) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE));
            if let Some(last) = self.pages.get_mut(&(size / PAGE)) {
                last.iter_mut().skip((size % PAGE) as usize).for_each(|byte| *byte = 0);
            }
        }
        self.size = size;
    }

    /// Pages with any bit set, by their place.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let filled = self.pages.iter().filter(|(_, page)| ***page != ZEROS);
        filled.map(|(number, page)| (number * PAGE, page.as_slice()))
    }

    /// Changes one bit of the file.
    pub fn flip(&mut self, at: u64, bit: u8) {
        let page = self.pages.entry(at / PAGE).or_insert_with(|| Box::new(ZEROS));
        if let Some(byte) = page.get_mut((at % PAGE) as usize) {
            *byte ^= 1 << (bit % 8);
        }
    }

    fn load(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut content = Self { size: file.metadata()?.len(), pages: BTreeMap::new() };
        for number in 0..content.size.div_ceil(PAGE) {
            let mut page = ZEROS;
            let length = usize::try_from((content.size - number * PAGE).min(PAGE)).unwrap_or_default();
            let filled = page.get_mut(..length).unwrap_or_default();
            file.read_exact_at(filled, number * PAGE)?;
            if page != ZEROS {
                content.pages.insert(number, Box::new(page));
            }
        }
        Ok(content)
    }

    fn store(&self, path: &Path) -> io::Result<()> {
        let file = File::create_new(path)?;
        file.set_len(self.size)?;
        for (at, page) in self.pages() {
            let length = usize::try_from((self.size - at).min(PAGE)).unwrap_or_default();
            file.write_all_at(page.get(..length).unwrap_or_default(), at)?;
        }
        Ok(())
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.pages().eq(other.pages())
    }
}

impl Eq for Content {}

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.size.hash(state);
        self.pages().for_each(|page| page.hash(state));
    }
}

/// What a name stands for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// A folder.
    Folder,
    /// A file.
    File(Content),
}

/// All files and folders below a folder, by their path from there.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Image(pub BTreeMap<PathBuf, Place>);

impl Image {
    /// Reads a folder.
    ///
    /// # Errors
    /// What reading meets, and anything that is neither file nor folder.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let mut image = Self::default();
        image.load_below(folder, Path::new(""))?;
        Ok(image)
    }

    fn load_below(&mut self, folder: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.0.insert(path.clone(), Place::Folder);
                self.load_below(folder, &path)?;
            } else if kind.is_file() {
                self.0.insert(path, Place::File(Content::load(&entry.path())?));
            } else {
                return Err(io::Error::other(format!("{} is neither file nor folder", path.display())));
            }
        }
        Ok(())
    }

    /// Writes everything into an empty folder.
    ///
    /// # Errors
    /// What writing meets.
    pub fn store(&self, folder: &Path) -> io::Result<()> {
        // A folder sorts before what lies in it.
        self.0.iter().try_for_each(|(path, place)| match place {
            Place::Folder => fs::create_dir(folder.join(path)),
            Place::File(content) => content.store(&folder.join(path)),
        })
    }

    /// The first name where two folders differ, and how.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let name = names.into_iter().find(|name| self.0.get(*name) != other.0.get(*name))?;
        let kind = |image: &Self| match image.0.get(name) {
            None => "absent".to_owned(),
            Some(Place::Folder) => "a folder".to_owned(),
            Some(Place::File(content)) => format!("a file of {} bytes", content.size()),
        };
        Some(format!("{}: {} and {}", name.display(), kind(self), kind(other)))
    }
}
