//! Values of one binary column, by row.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parquet::{
    column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader},
    data_type::{ByteArray, ByteArrayType},
    file::{
        metadata::ParquetMetaData, properties::ReaderProperties, reader::RowGroupReader,
        serialized_reader::SerializedRowGroupReader,
    },
};

use super::{File, damaged};

/// Values decoded at a time while scanning: they share their pages' memory.
const BATCH: usize = 16;
/// Rows that are decoded together where no page index says what lies together: more would hold
/// more images than a cache should.
const UNINDEXED_ROWS: usize = 64;

/// Values of some rows, null or not.
#[derive(Debug, Default)]
pub(super) struct Rows {
    first: usize,
    values: Vec<Result<Option<Bytes>, String>>,
}

impl Rows {
    pub(super) fn new(first: usize, values: Vec<Result<Option<Bytes>, String>>) -> Self {
        Self { first, values }
    }

    /// Of a row of the group.
    pub(super) fn value(&self, row: usize) -> Result<Option<Bytes>, String> {
        let at = row.checked_sub(self.first);
        let value = at.and_then(|at| self.values.get(at));
        value
            .cloned()
            .unwrap_or_else(|| Err(format!("damaged: row {row} has no value")))
    }

    pub(super) fn held_bytes(&self) -> u64 {
        let values = self.values.iter().flatten().flatten();
        let each = size_of::<Result<Option<Bytes>, String>>();
        values.map(|value| value.len() as u64).sum::<u64>() + (each * self.values.len()) as u64
    }
}

/// Reads row groups of a file.
pub(super) fn group<'a>(
    file: &File,
    footer: &'a ParquetMetaData,
    group: usize,
) -> Result<SerializedRowGroupReader<'a, File>, String> {
    let reader = Arc::new(File(file.0.clone()));
    let (metadata, index) = (
        footer.row_group(group),
        footer.page_index_for_row_group(group),
    );
    let properties = Arc::new(ReaderProperties::builder().build());
    SerializedRowGroupReader::new(reader, metadata, index, properties).map_err(damaged)
}

/// The rows to decode together with one: those of its page, where that is known.
pub(super) fn unit(
    footer: &ParquetMetaData,
    group: usize,
    leaf: usize,
    row: usize,
) -> Range<usize> {
    let rows = footer.row_group(group).num_rows() as usize;
    let index = footer.page_index_for_row_group(group);
    let Some(pages) = index.page_locations(leaf) else {
        let first = row - row % UNINDEXED_ROWS;
        return first..rows.min(first + UNINDEXED_ROWS);
    };
    let after = pages.partition_point(|page| page.first_row_index as usize <= row);
    let first = after
        .checked_sub(1)
        .map_or(0, |at| pages[at].first_row_index as usize);
    let end = pages
        .get(after)
        .map_or(rows, |page| page.first_row_index as usize);
    first..end
}

/// The values of some rows of a group.
pub(super) fn bytes(
    file: &File,
    footer: &ParquetMetaData,
    (at, leaf): (usize, usize),
    rows: Range<usize>,
) -> Result<Rows, String> {
    let mut reader = Leaf::open(file, footer, at, leaf)?;
    reader.skip(rows.start)?;
    let mut values = Vec::with_capacity(rows.len());
    while values.len() < rows.len() {
        let batch = reader.next(rows.len() - values.len())?;
        values.extend(batch.into_iter().map(Ok));
    }
    Ok(Rows::new(rows.start, values))
}

/// Every value of a group, with its row.
pub(super) fn each(
    file: &File,
    footer: &ParquetMetaData,
    (at, leaf): (usize, usize),
    mut each: impl FnMut(usize, Option<Bytes>),
) -> Result<(), String> {
    let rows = footer.row_group(at).num_rows() as usize;
    let mut reader = Leaf::open(file, footer, at, leaf)?;
    let mut row = 0;
    while row < rows {
        for value in reader.next(BATCH.min(rows - row))? {
            each(row, value);
            row += 1;
        }
    }
    Ok(())
}

struct Leaf {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// The level at which a value is there.
    defined: i16,
}

impl Leaf {
    fn open(file: &File, footer: &ParquetMetaData, at: usize, leaf: usize) -> Result<Self, String> {
        let pages = group(file, footer, at)?.get_column_page_reader(leaf);
        let column = footer.row_group(at).column(leaf).column_descr_ptr();
        let defined = column.max_def_level();
        let reader = get_column_reader(column, pages.map_err(damaged)?);
        let reader = get_typed_column_reader(reader);
        Ok(Self { reader, defined })
    }

    fn skip(&mut self, rows: usize) -> Result<(), String> {
        match self.reader.skip_records(rows).map_err(damaged)? {
            skipped if skipped == rows => Ok(()),
            skipped => Err(format!("damaged: has {skipped} rows, not {rows}")),
        }
    }

    /// At least one value, at most `most`.
    fn next(&mut self, most: usize) -> Result<Vec<Option<Bytes>>, String> {
        let (mut levels, mut values): (Vec<i16>, Vec<ByteArray>) = (Vec::new(), Vec::new());
        let levels_wanted = (self.defined > 0).then_some(&mut levels);
        let read = self
            .reader
            .read_records(most, levels_wanted, None, &mut values);
        let (rows, _, _) = read.map_err(damaged)?;
        if rows == 0 {
            return Err("damaged: the column ends before its row group".into());
        }
        let mut values = values.into_iter().map(Bytes::from_owner);
        if self.defined == 0 {
            return Ok(values.map(Some).collect());
        }
        let there = levels.iter().map(|&level| level == self.defined);
        Ok(there
            .map(|there| if there { values.next() } else { None })
            .collect())
    }
}
