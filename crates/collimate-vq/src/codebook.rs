//! The codebook beside a model of token maps.

use std::path::Path;

use collimate_hf::{CODEBOOK_FILE, HfError, HostTensor, ModelConfig, Scales};
use collimate_scales::{Codebook, Smoothing};
use collimate_weights::WeightFiles;

/// Reads the codebook of a model's folder; `None` if the model has none.
///
/// # Errors
/// The file is missing, or a tensor of it is missing or has another shape than the configuration says.
pub fn read_codebook(folder: &Path, config: &ModelConfig) -> Result<Option<Codebook>, HfError> {
    let Some(Scales { codebook_width: width, smoothings, residual, .. }) = config.scales.clone() else {
        return Ok(None);
    };
    let path = folder.join(CODEBOOK_FILE);
    if !path.is_file() {
        let remedy = "it has the codebook that tokens are embedded by (quantize.* of the published file)".to_owned();
        return Err(HfError::MissingFile { path, remedy });
    }
    let files = WeightFiles::open_file(&path)?;
    let read = |tensor: String, expected: &[usize]| match files.read(&tensor)? {
        HostTensor { shape, data } if shape == expected => Ok(data),
        HostTensor { shape, .. } => {
            Err(HfError::TensorShape { path: path.clone(), tensor, expected: expected.to_vec(), found: shape })
        }
    };
    let entries = read("quantize.embedding.weight".to_owned(), &[config.vocab_size, width])?;
    // A single convolution has no list around it.
    let root = |number: usize| match files.shape("quantize.quant_resi.qresi.weight") {
        Some(_) => "quantize.quant_resi.qresi".to_owned(),
        None => format!("quantize.quant_resi.qresi_ls.{number}"),
    };
    let smoothing = |number: usize| {
        let root = root(number);
        let weight = read(format!("{root}.weight"), &[width, width, 3, 3])?;
        Ok(Smoothing { weight, bias: read(format!("{root}.bias"), &[width])? })
    };
    let smoothings = (0..smoothings).map(smoothing).collect::<Result<_, HfError>>()?;
    Ok(Some(Codebook { entries, width, smoothings, residual }))
}
