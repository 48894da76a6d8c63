//! Which columns of a file are the image and its parts.

use parquet::{
    basic::{ConvertedType, LogicalType, Repetition, Type as Physical},
    file::metadata::ParquetMetaData,
    schema::types::{SchemaDescriptor, Type},
};

use super::Columns;

/// The columns that are read.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The leaf that holds the images' bytes.
    pub(super) image: usize,
    /// In the order of their names.
    pub(super) parts: Vec<Column>,
}

/// One part.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its index among the fields of the schema.
    pub(super) field: usize,
    /// The leaf, where values are plain bytes: texts and binaries at the top level.
    pub(super) bytes: Option<usize>,
    /// Whether these bytes must be UTF-8.
    pub(super) text: bool,
}

impl Chosen {
    pub(super) fn new(footer: &ParquetMetaData, wanted: &Columns) -> Result<Self, String> {
        let schema = footer.file_metadata().schema_descr();
        let image = match &wanted.image {
            Some(name) => field(schema, name)?,
            None => guess(schema)?,
        };
        let image_leaf = image_leaf(schema, image).ok_or_else(|| {
            let name = schema.root_schema().get_fields()[image].name();
            format!(
                "column `{name}` holds no encoded images: it must be binary, or a struct with a \
                 binary field `bytes`"
            )
        })?;
        let fields = schema.root_schema().get_fields();
        let chosen = match &wanted.parts {
            Some(names) => names.iter().map(|name| field(schema, name)).collect(),
            None => Ok((0..fields.len())
                .filter(|&at| !holds_binary(&fields[at]))
                .collect::<Vec<_>>()),
        }?;
        let parts = chosen.into_iter().filter(|&at| at != image);
        let mut parts: Vec<_> = parts.map(|at| column(schema, at)).collect();
        parts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            image: image_leaf,
            parts,
        })
    }
}

fn field(schema: &SchemaDescriptor, name: &str) -> Result<usize, String> {
    let fields = schema.root_schema().get_fields();
    fields
        .iter()
        .position(|field| field.name() == name)
        .ok_or_else(|| {
            let there: Vec<_> = fields.iter().map(|field| field.name()).collect();
            format!("has no column `{name}`, only {there:?}: name one of these")
        })
}

fn guess(schema: &SchemaDescriptor) -> Result<usize, String> {
    let fields = schema.root_schema().get_fields();
    let can = (0..fields.len()).filter(|&at| image_leaf(schema, at).is_some());
    let can: Vec<_> = can.collect();
    let named = can.iter().find(|&&at| fields[at].name() == "image");
    match (named, can.as_slice()) {
        (Some(&at), _) | (None, &[at]) => Ok(at),
        (None, []) => {
            let there: Vec<_> = fields.iter().map(|field| field.name()).collect();
            Err(format!(
                "has no image column: none of {there:?} is binary, or a struct with a binary \
                 field `bytes`"
            ))
        }
        (None, several) => {
            let names: Vec<_> = several.iter().map(|&at| fields[at].name()).collect();
            Err(format!(
                "several columns can be the image: name one of {names:?}"
            ))
        }
    }
}

/// The leaf with the images' bytes, if a field is a column of them.
fn image_leaf(schema: &SchemaDescriptor, at: usize) -> Option<usize> {
    let field = &schema.root_schema().get_fields()[at];
    if field.is_primitive() {
        return (is_binary(field) && !repeated(field)).then(|| first_leaf(schema, at));
    }
    if repeated(field) {
        return None;
    }
    let inner = field.get_fields();
    let bytes = inner.iter().find(|inner| inner.name() == "bytes")?;
    let plain = bytes.is_primitive() && is_binary(bytes) && !repeated(bytes);
    let path = [field.name(), "bytes"];
    let leaf = (0..schema.num_columns()).find(|&leaf| schema.column(leaf).path().parts() == path);
    leaf.filter(|_| plain)
}

fn first_leaf(schema: &SchemaDescriptor, field: usize) -> usize {
    let mut leaves = 0..schema.num_columns();
    leaves
        .find(|&leaf| schema.get_column_root_idx(leaf) == field)
        .unwrap_or(0)
}

fn column(schema: &SchemaDescriptor, at: usize) -> Column {
    let field = &schema.root_schema().get_fields()[at];
    let plain = field.is_primitive()
        && field.get_physical_type() == Physical::BYTE_ARRAY
        && !is_decimal(field)
        && !repeated(field);
    Column {
        name: field.name().to_owned(),
        field: at,
        bytes: plain.then(|| first_leaf(schema, at)),
        text: plain && !is_binary(field),
    }
}

fn repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

fn is_binary(field: &Type) -> bool {
    let info = field.get_basic_info();
    field.get_physical_type() == Physical::BYTE_ARRAY
        && info.converted_type() == ConvertedType::NONE
        && info.logical_type_ref().is_none()
}

fn is_decimal(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.converted_type() == ConvertedType::DECIMAL
        || matches!(info.logical_type_ref(), Some(LogicalType::Decimal { .. }))
}

fn holds_binary(field: &Type) -> bool {
    if field.is_primitive() {
        return is_binary(field);
    }
    field.get_fields().iter().any(|inner| holds_binary(inner))
}
