//! Parts of rows as text: strings and numbers as they are, lists and structs as JSON.

use bytes::Bytes;
use parquet::{
    file::{metadata::ParquetMetaData, reader::RowGroupReader},
    record::{Field, reader::RowIter},
    schema::types::Type,
};
use serde_json::Value;

use super::{
    File,
    columns::{Chosen, Column},
    damaged,
    rows::{self, Rows},
};
use crate::dataset::format;

/// All parts of a row group, a column at a time.
pub(super) fn parts(
    file: &File,
    footer: &ParquetMetaData,
    chosen: &Chosen,
    group: usize,
) -> Result<Vec<Rows>, String> {
    let parts = chosen.parts.iter().map(|column| {
        let read = match column.bytes {
            Some(leaf) => plain(file, footer, column, (group, leaf)),
            None => nested(file, footer, column, group),
        };
        read.map_err(|reason| format!("column `{}`: {reason}", column.name))
    });
    parts.collect()
}

fn plain(
    file: &File,
    footer: &ParquetMetaData,
    column: &Column,
    at: (usize, usize),
) -> Result<Rows, String> {
    let mut values = Vec::new();
    rows::each(file, footer, at, |_, value| {
        values.push(match value {
            Some(value) if column.text => format::text(&column.name, value).map(Some),
            value => Ok(value),
        });
    })?;
    Ok(Rows::new(0, values))
}

fn nested(
    file: &File,
    footer: &ParquetMetaData,
    column: &Column,
    at: usize,
) -> Result<Rows, String> {
    let group = rows::group(file, footer, at)?;
    let root = footer.file_metadata().schema_descr().root_schema();
    let only = Type::group_type_builder(root.name())
        .with_fields(vec![root.get_fields()[column.field].clone()])
        .build();
    let rows = RowIter::from_row_group(Some(only.map_err(damaged)?), &group).map_err(damaged)?;
    let values = rows.map(|row| {
        let row = row.map_err(damaged)?;
        let value = row.get_column_iter().next().map(|(_, field)| text(field));
        Ok(Ok(value.flatten()))
    });
    let values: Vec<_> = values.collect::<Result<_, String>>()?;
    let rows = group.metadata().num_rows() as usize;
    if values.len() != rows {
        let read = values.len();
        return Err(format!("damaged: has {read} values in {rows} rows"));
    }
    Ok(Rows::new(0, values))
}

/// None of null.
fn text(field: &Field) -> Option<Bytes> {
    Some(match field {
        Field::Null => return None,
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => Bytes::copy_from_slice(bytes.data()),
        other => match json(other) {
            Value::String(text) => text.into(),
            value => value.to_string().into(),
        },
    })
}

fn json(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) | Field::Date(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::TimestampMillis(value) | Field::TimestampMicros(value) => (*value).into(),
        Field::TimeMillis(value) => (*value).into(),
        Field::TimeMicros(value) => (*value).into(),
        Field::Float16(value) => number(&value.to_f32().to_string()),
        // By way of its shortest text: 0.1 stays 0.1.
        Field::Float(value) => number(&value.to_string()),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::Decimal(_) => field.to_string().into(),
        Field::Group(row) => {
            let fields = row.get_column_iter();
            let fields = fields.map(|(name, field)| (name.clone(), json(field)));
            Value::Object(fields.collect())
        }
        Field::ListInternal(list) => list.elements().iter().map(json).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, value)| {
                let key = match json(key) {
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                (key, json(value))
            });
            Value::Object(entries.collect())
        }
    }
}

/// NaN and infinities are no JSON: null.
fn number(text: &str) -> Value {
    text.parse::<f64>().map_or(Value::Null, Value::from)
}
