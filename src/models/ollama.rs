//! Ollama's store: `manifests/HOST/NAMESPACE/MODEL/TAG` are JSON files that name blobs by digest;
//! the weights are `blobs/sha256-...`, GGUF files without a suffix.
//!
//! The format: <https://github.com/ollama/ollama/blob/main/docs/modelfile.md> and the OCI image
//! manifest.

use std::path::{Path, PathBuf};

use inferometer_protocol::bounded::read_limited;
use serde::Deserialize;

/// A manifest is a few hundred bytes.
const LONGEST: u64 = 1 << 20;
const WEIGHTS: &str = "application/vnd.ollama.image.model";
/// What a name leaves out.
const USUAL_HOST: &str = "registry.ollama.ai";
const USUAL_NAMESPACE: &str = "library";

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
}

/// The blob with the weights of the model whose manifest is at `manifest`, in the store at `store`.
///
/// # Errors
/// Why the manifest names none that is there.
pub fn blob(store: &Path, manifest: &Path) -> Result<PathBuf, String> {
    let at = manifest.display();
    let bytes = read_limited(manifest, LONGEST).map_err(|error| error.to_string())?;
    let parsed: Manifest = serde_json::from_slice(&bytes).map_err(|error| format!("{at} is no manifest: {error}"))?;
    let mut weights = parsed.layers.iter().filter(|layer| layer.media_type == WEIGHTS);
    let (Some(layer), None) = (weights.next(), weights.next()) else {
        return Err(format!("{at} does not name exactly one file of weights"));
    };
    // Nothing else may become part of a path.
    let hex = layer.digest.strip_prefix("sha256:").filter(|hex| is_hex(hex));
    let hex = hex.ok_or_else(|| format!("{at} names a blob that is no SHA-256 digest"))?;
    let blob = store.join("blobs").join(format!("sha256-{hex}"));
    if blob.is_file() { Ok(blob) } else { Err(format!("{at} names a blob that is not there ({})", blob.display())) }
}

/// The store that a manifest is in: `STORE/manifests/...` beside `STORE/blobs`.
#[must_use]
pub fn store_of(manifest: &Path) -> Option<&Path> {
    let manifests = manifest.ancestors().skip(1).find(|folder| folder.ends_with("manifests"))?;
    manifests.parent().filter(|store| store.join("blobs").is_dir() && manifest.is_file())
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The name that Ollama shows for the parts of a manifest's path.
#[must_use]
pub fn name(host: &str, namespace: &str, model: &str, tag: &str) -> String {
    match (host, namespace) {
        (USUAL_HOST, USUAL_NAMESPACE) => format!("{model}:{tag}"),
        (USUAL_HOST, _) => format!("{namespace}/{model}:{tag}"),
        _ => format!("{host}/{namespace}/{model}:{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(digest: &str) -> (tempfile::TempDir, PathBuf) {
        let store = tempfile::tempdir().unwrap();
        let manifest = store.path().join("manifest");
        let json = serde_json::json!({"layers": [
            {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:00"},
            {"mediaType": WEIGHTS, "digest": digest},
        ]});
        fs_err::write(&manifest, json.to_string()).unwrap();
        fs_err::create_dir_all(store.path().join("blobs")).unwrap();
        (store, manifest)
    }

    #[test]
    fn a_manifest_leads_to_its_blob() {
        let hex = "0a".repeat(32);
        let (store, manifest) = store(&format!("sha256:{hex}"));
        let at = store.path().join(format!("blobs/sha256-{hex}"));
        assert!(blob(store.path(), &manifest).unwrap_err().contains("not there"));
        fs_err::write(&at, "GGUF").unwrap();
        assert_eq!(blob(store.path(), &manifest).unwrap(), at);
    }

    #[test]
    fn a_digest_that_leaves_the_folder_is_refused() {
        let long = format!("sha256:{}{}", "../".repeat(20), "aaaa");
        for digest in ["sha256:../../../../etc/passwd", "../x", "sha256:", "sha256:/etc/passwd", &long] {
            let (store, manifest) = store(digest);
            assert!(blob(store.path(), &manifest).unwrap_err().contains("no SHA-256 digest"), "{digest}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_said() {
        let (store, manifest) = store("sha256:00");
        fs_err::write(&manifest, "[]").unwrap();
        assert!(blob(store.path(), &manifest).unwrap_err().contains("is no manifest"));
        fs_err::write(&manifest, r#"{"layers": []}"#).unwrap();
        assert!(blob(store.path(), &manifest).unwrap_err().contains("exactly one"));
        fs_err::File::create(&manifest).unwrap().set_len(LONGEST + 1).unwrap();
        assert!(blob(store.path(), &manifest).unwrap_err().contains("longer than"));
    }
}
