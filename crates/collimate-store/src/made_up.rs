//! Stores of groups that come from no file.

use collimate_data::DataFiles;
use collimate_files::SpoolFolder;
use collimate_text::TokenizedGroup;

use crate::error::StoreError;
use crate::groups::GroupStore;
use crate::sources::Sources;
use crate::writer::Writer;

/// A store of these groups for this process only.
///
/// # Errors
/// They do not stay in memory, and no private file can be written.
pub fn store_of(groups: &[TokenizedGroup], files: &DataFiles) -> Result<GroupStore, StoreError> {
    let mut writer = Writer::private(&SpoolFolder::default());
    groups.iter().try_for_each(|group| writer.push(group))?;
    writer.finish(Vec::new(), files, &Sources::new(files))
}
