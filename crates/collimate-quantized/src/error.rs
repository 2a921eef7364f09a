//! What is wrong with packed weights, or with numbers to be packed.

/// Weights that cannot be packed or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizedError {
    /// A tensor that a packed weight needs is not there.
    #[error("tensor \"{tensor}\" is missing: \"{weight}\" is packed as {format} and cannot be read without it")]
    Missing {
        /// The tensor that is not there.
        tensor: String,
        /// The weight it belongs to.
        weight: String,
        /// The format of the weight.
        format: &'static str,
    },
    /// A tensor holds another type of numbers than its format has.
    #[error("tensor \"{tensor}\": expected {expected}, found {found}")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The types that its format has.
        expected: &'static str,
        /// The type it holds.
        found: String,
    },
    /// A tensor has another shape or length than its format asks for.
    #[error("tensor \"{tensor}\": expected {expected}, found {found}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape or length that its format asks for.
        expected: String,
        /// What it has.
        found: String,
    },
    /// A scale, an offset or a table holds something that makes weights infinite or undefined.
    #[error("tensor \"{tensor}\"[{index}] is {value}: {reason}")]
    Value {
        /// The tensor.
        tensor: String,
        /// The flat position of the number.
        index: usize,
        /// The number.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The JSON of a `quant_state` cannot be used.
    #[error("tensor \"{tensor}\": {message}")]
    QuantState {
        /// The tensor that holds it.
        tensor: String,
        /// What is wrong.
        message: String,
    },
    /// A format that is known and not read.
    #[error("tensor \"{tensor}\": {message}")]
    Unsupported {
        /// The tensor that shows it.
        tensor: String,
        /// What is not supported, and what is.
        message: String,
    },
    /// The `quantization_config` of config.json cannot be used.
    #[error("quantization_config.{field}: {message}")]
    Config {
        /// The key.
        field: String,
        /// What is wrong with its value.
        message: String,
    },
    /// A matrix with no rows, no columns, or more numbers than can be counted.
    #[error("a matrix of {rows} × {columns} cannot be packed")]
    Size {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
    },
    /// Not as many numbers as the matrix has.
    #[error("a matrix of {rows} × {columns} has {} numbers, found {found}", rows * columns)]
    Count {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
        /// The numbers given.
        found: usize,
    },
    /// A number that cannot be packed.
    #[error("row {row}, column {column} is {value}, which {format} cannot hold")]
    Number {
        /// The row of the first one.
        row: usize,
        /// Its column.
        column: usize,
        /// The number.
        value: f32,
        /// The format asked for.
        format: &'static str,
    },
    /// A block size that no reader knows.
    #[error("blocks of {0} numbers: expected 32, 64, 128, 256, 512, 1024, 2048 or 4096")]
    BlockSize(usize),
}
