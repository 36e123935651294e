//! Apache Parquet, for notebooks and DuckDB: one table of a record, with every column optional, in
//! one row group, uncompressed.

use std::io::{Error, Write};
use std::sync::Arc;

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::record::flat::{FlatColumn, Values};

/// Writes the columns, which have equally many values.
///
/// # Errors
/// When `out` cannot be written.
pub fn parquet(columns: &[FlatColumn], out: &mut dyn Write) -> std::io::Result<()> {
    let bytes = encoded(columns).map_err(Error::other)?;
    out.write_all(&bytes)
}

fn encoded(columns: &[FlatColumn]) -> Result<Vec<u8>, ParquetError> {
    let properties =
        WriterProperties::builder().set_created_by(concat!("inferometer ", env!("CARGO_PKG_VERSION")).into());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema(columns)?, Arc::new(properties.build()))?;
    let mut group = writer.next_row_group()?;
    for column in columns {
        match &column.values {
            Values::Bool(values) => write::<BoolType>(&mut group, values)?,
            Values::Whole(values) => write::<Int64Type>(&mut group, values)?,
            Values::Number(values) => write::<DoubleType>(&mut group, values)?,
            Values::Text(values) => {
                let bytes: Vec<Option<ByteArray>> =
                    values.iter().map(|text| text.as_deref().map(ByteArray::from)).collect();
                write::<ByteArrayType>(&mut group, &bytes)?;
            }
        }
    }
    group.close()?;
    writer.into_inner()
}

fn schema(columns: &[FlatColumn]) -> Result<TypePtr, ParquetError> {
    let field = |column: &FlatColumn| {
        let (physical, converted) = match &column.values {
            Values::Bool(_) => (Physical::BOOLEAN, ConvertedType::NONE),
            Values::Whole(_) => (Physical::INT64, ConvertedType::NONE),
            Values::Number(_) => (Physical::DOUBLE, ConvertedType::NONE),
            Values::Text(_) => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
        };
        let field = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
        field.with_converted_type(converted).build().map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Result<_, _>>()?;
    Type::group_type_builder("inferometer").with_fields(fields).build().map(Arc::new)
}

/// Writes the next column: the values that there are, and a level of 1 for each of them.
fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[Option<T::T>],
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.iter().flatten().cloned().collect();
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn values_and_nulls_are_read_back() {
        let column = |name: &str, values| FlatColumn { name: name.to_owned(), values };
        let text = |text: &str| Some(text.to_owned());
        let columns = [
            column("warmup", Values::Bool(vec![Some(true), None, Some(false)])),
            column("t_ns", Values::Whole(vec![None, Some(-1), Some(i64::MAX)])),
            column("rate", Values::Number(vec![Some(0.1), Some(-2.5e300), None])),
            column("label", Values::Text(vec![text("a, \"b\"\nç"), None, None])),
            column("empty", Values::Number(vec![None; 3])),
        ];
        let mut file = tempfile::tempfile().unwrap();
        parquet(&columns, &mut file).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 3);
        let rows: Vec<Vec<Field>> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().get_column_iter().map(|(_, field)| field.clone()).collect())
            .collect();
        let label = Field::Str("a, \"b\"\nç".to_owned());
        assert_eq!(rows[0], [Field::Bool(true), Field::Null, Field::Double(0.1), label, Field::Null]);
        assert_eq!(rows[1], [Field::Null, Field::Long(-1), Field::Double(-2.5e300), Field::Null, Field::Null]);
        assert_eq!(rows[2], [Field::Bool(false), Field::Long(i64::MAX), Field::Null, Field::Null, Field::Null]);
        let nothing: Vec<FlatColumn> = vec![column("empty", Values::Text(Vec::new()))];
        parquet(&nothing, &mut Vec::new()).unwrap();
    }
}
