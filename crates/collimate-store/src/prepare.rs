//! From the files of a recipe to stores: looked up, or read and tokenized window by window.

mod encode;
mod key;
mod windows;

use collimate_data::{DataPart, counted};
use collimate_progress::Observer;

use crate::contents::Contents;
use crate::error::StoreError;
use crate::groups::GroupStore;
use crate::mix::{MixOptions, Part, Selection};
use crate::sources::Sources;
use crate::store_folder::StoreFolder;
use blake3::Hash;
pub use encode::Encoder;
use key::key;
use windows::Filling;

/// What a run asks of its data.
#[derive(Debug, Clone)]
pub struct DataRequest<'a> {
    /// Names of the files, for messages.
    pub name: String,
    /// The files.
    pub parts: &'a [DataPart],
    /// Filters, draws and seed.
    pub mix: MixOptions,
    /// What to hold out: a share of the groups, or their number if it is above 1; 0 for nothing.
    pub hold_out: f64,
    /// Most bytes of memory that the data may take; `None` for no limit.
    pub memory: Option<u64>,
}

impl DataRequest<'_> {
    /// The names of this run for what the groups come from.
    fn sources(&self) -> Sources {
        let used = self.parts.iter().filter(|part| part.weight > 0.0);
        Sources { name: self.name.clone(), paths: used.map(|part| part.path.clone()).collect() }
    }
}

/// Groups that were found, or rows that were read and are not tokenized yet.
#[derive(Debug)]
pub struct Preparation<'a> {
    request: DataRequest<'a>,
    encoder: Encoder<'a>,
    stores: &'a StoreFolder,
    /// Whether the held-out part is of use.
    needs_held_out: bool,
    /// The files' hashes, if they can have any.
    contents: Option<Contents>,
    /// Stores of earlier runs, by part.
    found: [Option<GroupStore>; 2],
    /// The rows, if a store is missing.
    selection: Option<Selection>,
    notes: Vec<String>,
}

/// The groups of a run.
#[derive(Debug)]
pub struct PreparedGroups {
    /// Those to train on.
    pub training: GroupStore,
    /// Those held out, if any. An error is kept until later, so that one about the training data is reported first.
    pub held_out: Option<Result<GroupStore, StoreError>>,
    /// Lines for the log: what was found in the cache, and what is wrong with it.
    pub notes: Vec<String>,
}

const PARTS: [Part; 2] = [Part::Training, Part::HeldOut];

impl<'a> Preparation<'a> {
    /// Looks for the stores of earlier runs; where one is missing, reads all rows once. `needs_held_out` is false if only the
    /// training part will be used.
    ///
    /// # Errors
    /// A row cannot be used (the error names file, line and field), nothing is left, one side of a split would be empty, or
    /// the tables do not fit into memory.
    pub fn begin(
        request: DataRequest<'a>,
        encoder: Encoder<'a>,
        stores: &'a StoreFolder,
        needs_held_out: bool,
        observer: &mut dyn Observer,
    ) -> Result<Self, StoreError> {
        let mut preparation = Self {
            request,
            encoder,
            stores,
            needs_held_out,
            contents: None,
            found: [None, None],
            selection: None,
            notes: Vec::new(),
        };
        preparation.look_up(observer);
        if PARTS.iter().any(|part| preparation.needs(*part) && preparation.found[*part as usize].is_none()) {
            preparation.selection = Some(preparation.select(observer)?);
        }
        Ok(preparation)
    }

    fn holds_out(&self) -> bool {
        self.request.hold_out > 0.0
    }

    fn needs(&self, part: Part) -> bool {
        part == Part::Training || (self.needs_held_out && self.holds_out())
    }

    fn look_up(&mut self, observer: &mut dyn Observer) {
        let (Some(folder), true) = (self.stores.folder(), self.encoder.identity().is_some()) else { return };
        let used = self.request.parts.iter().filter(|part| part.weight > 0.0);
        observer.stage(&format!("looking up {}", self.request.name), None);
        self.contents = Contents::read(used.map(|part| part.path.as_path()), folder);
        for part in PARTS {
            let Some(key) = self.key(part).filter(|_| self.needs(part)) else { continue };
            let (found, note) = self.stores.find(&key, &self.request.sources());
            self.notes.extend(note);
            // Reading the rows names the one that has too many.
            let most = self.request.mix.load.most_responses.as_ref().map_or(usize::MAX, |most| most.count);
            let found = found.filter(|store| store.totals().most_responses <= most);
            let found = found.filter(|store| !self.encoder.reads_images() || store.has_its_images());
            if let Some(store) = &found {
                let path = store.path().unwrap_or(folder).display();
                self.notes.push(format!(
                    "  tokens of {} as an earlier run made them, {path}",
                    counted(store.len(), "prompt")
                ));
            }
            self.found[part as usize] = found;
        }
        observer.finish();
    }

    /// What a part's store is found by; `None` if it cannot be kept.
    fn key(&self, part: Part) -> Option<Hash> {
        let contents = self.contents.as_ref()?;
        Some(key(&self.request, &contents.hashes, self.encoder.identity()?, part, self.encoder.reads_images()))
    }

    /// Reads all rows once.
    fn select(&self, observer: &mut dyn Observer) -> Result<Selection, StoreError> {
        let request = &self.request;
        let mut is_reading = false;
        let selection = Selection::read(request.parts, &request.mix, self.stores.spool(), &mut |path, num_groups| {
            if num_groups == 0 {
                if std::mem::replace(&mut is_reading, true) {
                    observer.finish();
                }
                observer.stage(&format!("reading {}", path.display()), None);
            } else {
                observer.advance(num_groups as u64);
            }
        });
        observer.finish();
        let mut selection = selection?;
        let num_groups = selection.num_used();
        if num_groups == 0 {
            return Err(StoreError::NoGroups { name: request.name.clone() });
        }
        self.check_memory(num_groups)?;
        if self.holds_out() {
            let share = match request.hold_out {
                count if count > 1.0 => (count / num_groups as f64).min(1.0),
                share => share,
            };
            selection.hold_out(share)?;
            if PARTS.iter().any(|part| selection.num_groups(*part) == 0) {
                return Err(StoreError::HoldOut { name: request.name.clone() });
            }
        }
        Ok(selection)
    }

    /// Checks that what is held of each group fits into memory.
    fn check_memory(&self, num_groups: usize) -> Result<(), StoreError> {
        let needed = memory_of(num_groups, self.holds_out());
        match self.request.memory {
            Some(memory) if needed > memory => {
                Err(StoreError::Memory { name: self.request.name.clone(), num_groups, needed })
            }
            _ => Ok(()),
        }
    }

    /// Tokenizes what no store has, on all cores.
    ///
    /// # Errors
    /// A row cannot be used once it is tokenized, or the store cannot be written.
    pub fn finish(mut self, observer: &mut dyn Observer) -> Result<PreparedGroups, StoreError> {
        let Some(selection) = self.selection.take() else {
            let [training, held_out] = self.found;
            let training = training.ok_or_else(|| StoreError::NoGroups { name: self.request.name.clone() })?;
            return Ok(PreparedGroups { training, held_out: held_out.map(Ok), notes: self.notes });
        };
        let mut filling = Filling { request: &self.request, encoder: &self.encoder, selection: &selection };
        let [mut training, mut held_out] = [None, None];
        for part in PARTS {
            if self.found[part as usize].is_none() && self.needs(part) {
                let (writer, note) = self.stores.writer(self.key(part).as_ref());
                self.notes.extend(note);
                let target = filling.target(part, writer)?;
                *(if part == Part::Training { &mut training } else { &mut held_out }) = Some(target);
            }
        }
        let mut targets = [training, held_out];
        filling.fill(&mut targets, observer)?;
        if let Some(contents) = &self.contents {
            contents.check_unchanged()?;
        }
        let [training, held_out] = targets;
        let [found_training, found_held_out] = std::mem::take(&mut self.found);
        let keep = |mut store: GroupStore| {
            self.stores.keep(&mut store);
            store
        };
        let training = match (found_training, training) {
            (Some(store), _) => store,
            (None, Some(target)) => keep(target.finish(&filling)?),
            (None, None) => return Err(StoreError::NoGroups { name: self.request.name.clone() }),
        };
        let held_out = match (found_held_out, held_out) {
            (Some(store), _) => Some(Ok(store)),
            (None, Some(target)) => Some(target.finish(&filling).map(keep)),
            (None, None) => None,
        };
        Ok(PreparedGroups { training, held_out, notes: self.notes })
    }
}

/// Bytes of memory that are held of this many groups at most: an order, bits, and where some are held out their prompts.
pub fn memory_of(num_groups: usize, holds_out: bool) -> u64 {
    let each = if holds_out { 16 } else { 8 };
    num_groups as u64 * each + num_groups as u64 / 2
}
