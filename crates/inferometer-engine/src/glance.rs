//! A few facts about a model, for lists: read from configurations and headers, never from weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::folder::{self, Kind};
use crate::gguf::Gguf;
use crate::transformer;
use crate::transformer::config::{Config, LONGEST, read_json};
use inferometer_protocol::bounded::brief;

/// The header of a safetensors file is not longer in a list.
const LONGEST_HEADER: u64 = 64 << 20;

/// What a list shows of a model. What is absent could not be read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Glance {
    /// As the model calls it, such as `llama`.
    pub architecture: Option<String>,
    /// Container and numbers, such as `safetensors BF16`, `MLX 4-bit` or `GGUF Q4_1`.
    pub format: Option<String>,
    /// Stored bits per weight: of a GGUF file the mean over all tensors, otherwise those of most
    /// weights.
    pub bits: Option<f64>,
    /// Bytes of the files with weights.
    pub disk_bytes: u64,
    /// The longest context, in tokens.
    pub context_length: Option<u64>,
    /// Why the built-in engine cannot open it; absent where it can, as far as is seen without
    /// reading weights.
    pub refused: Option<String>,
}

/// Looks at the model at `path`.
#[must_use]
pub fn glance(path: &Path) -> Glance {
    match folder::recognise(path) {
        Kind::HuggingFaceFolder | Kind::MlxFolder => of_folder(path),
        Kind::GgufFile { .. } => of_gguf(path),
        Kind::FolderWithGguf { files } if files.len() == 1 => of_gguf(&files[0]),
        Kind::FolderWithGguf { .. } | Kind::SafetensorsFile | Kind::Unknown { .. } => {
            Glance { refused: folder::fault(path), ..Glance::default() }
        }
    }
}

fn of_folder(folder: &Path) -> Glance {
    let json = read_json(&folder.join("config.json"), LONGEST).unwrap_or(Value::Null);
    let files = weight_files(folder);
    let (format, bits) = folder_format(&json, &files).unzip();
    let refused = match Config::from_folder(folder) {
        Err(error) => Some(without(folder, &error.message)),
        Ok(_) if files.is_empty() => Some("it has no *.safetensors".to_owned()),
        Ok(_) => None,
    };
    // Models that also see or hear keep their language model's configuration inside.
    let own = |key: &str| json.get(key).or_else(|| json.get("text_config")?.get(key));
    Glance {
        architecture: own("model_type").and_then(Value::as_str).map(brief),
        format,
        bits,
        disk_bytes: files.iter().filter_map(|file| Some(fs_err::metadata(file).ok()?.len())).sum(),
        context_length: own("max_position_embeddings").and_then(Value::as_u64),
        refused,
    }
}

/// A message about a file in `folder`, with the file's name alone.
fn without(folder: &Path, message: &str) -> String {
    message.replace(&format!("{}/", folder.display()), "")
}

fn weight_files(folder: &Path) -> Vec<PathBuf> {
    let listed = fs_err::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = listed
        .filter(|file| file.extension().is_some_and(|suffix| suffix == "safetensors") && file.is_file())
        .collect();
    files.sort_unstable();
    files
}

/// Format of a folder's weights, and bits per weight.
fn folder_format(config: &Value, files: &[PathBuf]) -> Option<(String, f64)> {
    let mlx = config.get("quantization").and_then(|quantization| quantization.get("bits")?.as_u64());
    if let Some(bits) = mlx {
        return Some((format!("MLX {bits}-bit"), bits as f64));
    }
    let dtype = usual_dtype(files.first()?)?;
    let digits: String = dtype.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let bits = digits.parse().ok()?;
    Some((format!("safetensors {dtype}"), bits))
}

/// The type of most bytes in a safetensors file, by its header.
fn usual_dtype(file: &Path) -> Option<String> {
    use std::io::Read;
    let mut reader = fs_err::File::open(file).ok()?;
    let mut length = [0; 8];
    reader.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    reader.take(length.min(LONGEST_HEADER)).read_to_end(&mut header).ok()?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&header).ok()?;
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in header.values() {
        let (Some(dtype), Some(ends)) = (tensor.get("dtype").and_then(Value::as_str), tensor.get("data_offsets"))
        else {
            continue;
        };
        let end = |at: usize| ends.get(at).and_then(Value::as_u64).unwrap_or(0);
        let sum = bytes.entry(dtype).or_default();
        *sum = sum.saturating_add(end(1).saturating_sub(end(0)));
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(dtype, _)| brief(dtype))
}

fn of_gguf(path: &Path) -> Glance {
    let gguf = match Gguf::open(path).map(Arc::new) {
        Ok(gguf) => gguf,
        Err(error) => {
            let bytes = fs_err::metadata(path).map_or(0, |data| data.len());
            let folder = path.parent().unwrap_or(Path::new(""));
            let refused = Some(without(folder, &error.message));
            return Glance { format: Some("GGUF".to_owned()), disk_bytes: bytes, refused, ..Glance::default() };
        }
    };
    let metadata = gguf.metadata();
    let architecture = metadata.text("general.architecture").ok().flatten().map(brief);
    let context = |name: &String| metadata.count(&format!("{name}.context_length")).ok().flatten();
    let (mut bytes, mut values) = (0.0, 0.0);
    for tensor in gguf.tensors() {
        bytes += tensor.length as f64;
        values += tensor.shape.iter().map(|side| *side as f64).product::<f64>();
    }
    let file_type = metadata.count("general.file_type").ok().flatten();
    let numbers = file_type.and_then(file_type_name).map(str::to_owned).or_else(|| usual_kind(&gguf));
    Glance {
        format: Some(numbers.map_or_else(|| "GGUF".to_owned(), |numbers| format!("GGUF {numbers}"))),
        bits: (values > 0.0).then(|| bytes * 8.0 / values),
        disk_bytes: gguf.length(),
        context_length: architecture.as_ref().and_then(context),
        refused: refused(&gguf),
        architecture,
    }
}

/// Why the built-in engine cannot open a GGUF model.
fn refused(gguf: &Arc<Gguf>) -> Option<String> {
    let folder = gguf.path().parent().unwrap_or(Path::new(""));
    let error = transformer::gguf::checked(gguf).err()?;
    Some(without(folder, &error.message))
}

/// The type of most values.
fn usual_kind(gguf: &Gguf) -> Option<String> {
    let mut values: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *values.entry(tensor.kind.to_string()).or_default() += tensor.shape.iter().product::<usize>();
    }
    values.into_iter().max_by_key(|(_, values)| *values).map(|(kind, _)| kind)
}

/// The mixture of types that a number of `general.file_type` stands for: `enum llama_ftype` in
/// `llama.h`.
fn file_type_name(number: u64) -> Option<&'static str> {
    const NAMES: [(u64, &str); 33] = [
        (0, "F32"),
        (1, "F16"),
        (2, "Q4_0"),
        (3, "Q4_1"),
        (7, "Q8_0"),
        (8, "Q5_0"),
        (9, "Q5_1"),
        (10, "Q2_K"),
        (11, "Q3_K_S"),
        (12, "Q3_K_M"),
        (13, "Q3_K_L"),
        (14, "Q4_K_S"),
        (15, "Q4_K_M"),
        (16, "Q5_K_S"),
        (17, "Q5_K_M"),
        (18, "Q6_K"),
        (19, "IQ2_XXS"),
        (20, "IQ2_XS"),
        (21, "Q2_K_S"),
        (22, "IQ3_XS"),
        (23, "IQ3_XXS"),
        (24, "IQ1_S"),
        (25, "IQ4_NL"),
        (26, "IQ3_S"),
        (27, "IQ3_M"),
        (28, "IQ2_S"),
        (29, "IQ2_M"),
        (30, "IQ4_XS"),
        (31, "IQ1_M"),
        (32, "BF16"),
        (36, "TQ1_0"),
        (37, "TQ2_0"),
        (38, "MXFP4"),
    ];
    NAMES.iter().find(|(of, _)| *of == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgmlType;
    use crate::synthetic::{self, Recipe};
    use crate::transformer::gguf::fixture;
    use crate::transformer::testing::{config, tensors};
    use inferometer_protocol::{Architecture, Quantization};

    #[test]
    fn a_gguf_file_is_told_by_its_header_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sha256-00");
        let config = config("llama");
        fixture::write(&path, &config, &tensors(&config, 1), GgmlType::Q4_1);
        let seen = glance(&path);
        assert_eq!((seen.architecture.as_deref(), seen.format.as_deref()), (Some("llama"), Some("GGUF Q4_1")));
        // Five norms of 64 in f32; blocks of 32 values with 20 bytes.
        let (all, norms) = (512 * 64 + 64 + 2 * (2 * 64 + 64 * 64 * 2 + 2 * 32 * 64 + 3 * 96 * 64), 5 * 64);
        assert_eq!(seen.bits, Some(f64::from((all - norms) / 32 * 20 + norms * 4) * 8.0 / f64::from(all)));
        assert_eq!((seen.context_length, seen.refused), (Some(1024), None));
        assert_eq!(seen.disk_bytes, fs_err::metadata(&path).unwrap().len());
    }

    #[test]
    fn a_refusal_names_what_is_there_and_what_is_supported() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| glance(&folder.path().join(name)).refused.unwrap();
        let mut other = config("llama");
        other["model_type"] = "mamba".into();
        fixture::metadata(&other).write(&folder.path().join("a.gguf"));
        let error = refused("a.gguf");
        assert!(error.starts_with("a.gguf: ") && error.contains("\"mamba\" is not supported; this engine has llama, "));
        let kind = GgmlType::IQ2_XXS;
        let mut cut = config("llama");
        cut["hidden_size"] = 256.into();
        fixture::metadata(&cut)
            .tensor("token_embd.weight", &[128, 256], kind, vec![0; 128 * kind.block_bytes()])
            .write(&folder.path().join("b.gguf"));
        let error = refused("b.gguf");
        assert!(error.contains("token_embd.weight is IQ2_XXS") && error.contains("F32, "), "{error}");
        fs_err::write(folder.path().join("c.gguf"), b"GGUF\x03\0\0\0").unwrap();
        let cut = glance(&folder.path().join("c.gguf"));
        assert!(cut.format.as_deref() == Some("GGUF") && cut.refused.unwrap().starts_with("c.gguf: "));
        fs_err::write(folder.path().join("d.gguf"), b"nothing").unwrap();
        assert!(refused("d.gguf").contains("does not begin as one"));
    }

    #[test]
    fn a_folder_is_told_by_configuration_and_headers() {
        let folder = tempfile::tempdir().unwrap();
        for (name, quantization, format, bits) in
            [("plain", None, "safetensors F32", 32.0), ("mlx", Quantization::new(4, 64), "MLX 4-bit", 4.0)]
        {
            let path = folder.path().join(name);
            let recipe = Recipe::find(Architecture::Qwen3, "tiny", 1).unwrap().stored(None, quantization);
            synthetic::create(&recipe, &path).unwrap();
            let seen = glance(&path);
            assert_eq!((seen.architecture.as_deref(), seen.format.as_deref()), (Some("qwen3"), Some(format)));
            assert_eq!((seen.bits, seen.context_length, seen.refused), (Some(bits), Some(40960), None));
            let weights = fs_err::metadata(path.join("model.safetensors")).unwrap().len();
            assert_eq!(seen.disk_bytes, weights);
        }
        let other = folder.path().join("other");
        fs_err::create_dir(&other).unwrap();
        let config = r#"{"model_type": "mamba", "text_config": {"max_position_embeddings": 7}}"#;
        fs_err::write(other.join("config.json"), config).unwrap();
        let seen = glance(&other);
        assert_eq!((seen.architecture.as_deref(), seen.context_length), (Some("mamba"), Some(7)));
        let refused = seen.refused.unwrap();
        assert!(refused.starts_with("config.json: ") && refused.contains("mamba"), "{refused}");
    }
}
