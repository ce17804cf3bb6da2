//! One file per architecture, and the choice among them and among the implementations of the operations.

mod bert;
mod dense;
mod llama;
mod parts;
mod qwen2;

use burn::backend::Flex;
use cloister_domain::{ByteCount, TokenCount, TokenId};
use cloister_weights::{File, Name};
use rayon::ThreadPool;

use crate::{
    Backend, Decoder, Device, Encoder, Facts, ModelError, Ops, Options,
    burn_ops::BurnOps,
    config::{DecoderConfig, Keys, index},
    decoder::Runner,
    encoder::{EncoderFacts, EncoderRunner},
    folder::Folder,
    ops::CacheShape,
    pages::PAGE_TOKENS,
    pooling::Pooling,
    scalar_ops::ScalarOps,
    simd_ops::SimdOps,
};

/// Most bytes of a KV cache.
const CACHE_BYTES_MAX: u64 = 1 << 40;

/// A dense decoder's configuration and the names of its tensors.
struct Plan {
    architecture: &'static str,
    config: DecoderConfig,
    names: dense::Names,
}

/// Loads the language model that a folder holds.
pub(crate) fn decoder(
    folder: Folder,
    device: Device,
    options: &Options,
) -> Result<Decoder, ModelError> {
    let Folder { file, config } = folder;
    let plan = match config {
        Some(json) => {
            let mut keys = Keys::parse(&json)?;
            match keys.text("model_type")?.as_deref() {
                Some("llama") => llama::from_keys(keys)?,
                Some("qwen2") => qwen2::from_keys(keys)?,
                other => return Err(unsupported(other)),
            }
        }
        None => match file.metadata().text("general.architecture").map_err(ModelError::Weights)? {
            Some("llama") => llama::from_metadata(&file)?,
            Some("qwen2") => qwen2::from_metadata(&file)?,
            other => return Err(unsupported(other)),
        },
    };
    let (facts, shape) = facts(&plan, &file, device, options)?;
    let pool = pool(options)?;
    let (facts, runner) = match (device, options.backend) {
        (Device::Cuda(index), _) => on_cuda(index, &plan, &file, shape, pool, facts)?,
        (Device::Cpu, Backend::Auto | Backend::Simd) => {
            let ops = SimdOps::new();
            let name = format!("simd {}", ops.name());
            run(ops, &name, &plan, &file, shape, pool, facts)?
        }
        (Device::Cpu, Backend::Scalar) => {
            run(ScalarOps, "scalar", &plan, &file, shape, pool, facts)?
        }
        (Device::Cpu, Backend::Burn) => run(flex(), "burn flex", &plan, &file, shape, pool, facts)?,
    };
    Ok(Decoder::new(runner, facts, file))
}

/// Loads the embedding model that a folder holds.
pub(crate) fn encoder(
    folder: Folder,
    pooling: Pooling,
    device: Device,
    options: &Options,
) -> Result<Encoder, ModelError> {
    let Folder { file, config } = folder;
    // Encoders come as safetensors; a GGUF file names another architecture.
    let Some(json) = config else { return Err(unsupported(Some("gguf"))) };
    let mut keys = Keys::parse(&json)?;
    let config = match keys.text("model_type")?.as_deref() {
        Some("bert") => bert::Config::from_keys(keys)?,
        other => return Err(unsupported(other)),
    };
    let pool = pool(options)?;
    let (backend, runner): (String, Box<dyn EncoderRunner>) = match (device, options.backend) {
        (Device::Cuda(index), _) => encoder_on_cuda(index, &config, &file, pool)?,
        (Device::Cpu, Backend::Auto | Backend::Burn) => {
            ("burn flex".to_owned(), Box::new(bert::Bert::load(flex(), &file, &config, pool)?))
        }
        (Device::Cpu, Backend::Simd) => {
            let ops = SimdOps::new();
            let name = format!("simd {}", ops.name());
            (name, Box::new(bert::Bert::load(ops, &file, &config, pool)?))
        }
        (Device::Cpu, Backend::Scalar) => {
            ("scalar".to_owned(), Box::new(bert::Bert::load(ScalarOps, &file, &config, pool)?))
        }
    };
    let facts = EncoderFacts {
        architecture: "bert",
        context: TokenCount(config.context().min(options.context_tokens_max.0)),
        vocabulary: narrow(config.vocabulary()),
        width: narrow(config.width()),
        weights: file.size(),
        device,
        backend,
    };
    Ok(Encoder::new(runner, facts, pooling, file))
}

/// What is known of a decoder before its weights are touched, and the cache that it needs.
fn facts(
    plan: &Plan,
    file: &File,
    device: Device,
    options: &Options,
) -> Result<(Facts, CacheShape), ModelError> {
    let config = &plan.config;
    let pages = index(options.cache_tokens_max.0).div_ceil(PAGE_TOKENS).max(1);
    let floats = 2 * config.layers * config.key_heads * config.head_width;
    let per_token = u64::try_from(4 * floats).expect("sizes were checked");
    let cache = narrow(pages * PAGE_TOKENS);
    let bytes = per_token.saturating_mul(u64::from(cache));
    if bytes > CACHE_BYTES_MAX {
        return Err(ModelError::CacheSize { bytes: ByteCount(bytes) });
    }
    let context = config.context.min(options.context_tokens_max.0).min(cache);
    let elements = |count: usize| u64::try_from(count).expect("a count fits 64 bits");
    let facts = Facts {
        architecture: plan.architecture,
        context: TokenCount(context),
        vocabulary: narrow(config.vocabulary),
        begin: config.begin.map(TokenId),
        ends: config.ends.iter().copied().map(TokenId).collect(),
        parameters: file.tensors().map(|(_, tensor)| elements(tensor.elements())).sum(),
        weights: file.size(),
        kv_bytes_per_token: ByteCount(per_token),
        cache: TokenCount(cache),
        device,
        backend: String::new(),
    };
    let shape = CacheShape {
        layers: config.layers,
        pages,
        heads: config.key_heads,
        width: config.head_width,
    };
    Ok((facts, shape))
}

/// Puts a plan on an implementation of the operations.
fn run<O: Ops + 'static>(
    ops: O,
    name: &str,
    plan: &Plan,
    file: &File,
    shape: CacheShape,
    pool: ThreadPool,
    facts: Facts,
) -> Result<(Facts, Box<dyn Runner>), ModelError> {
    let runner = dense::Dense::load(ops, file, plan.config.clone(), &plan.names, shape, pool)?;
    Ok((Facts { backend: name.to_owned(), ..facts }, Box::new(runner)))
}

fn flex() -> BurnOps<Flex> {
    BurnOps::new(burn::backend::flex::FlexDevice, true)
}

#[cfg(feature = "cuda")]
fn cuda(index: u16) -> BurnOps<burn_cuda::Cuda<f32, i32>> {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    static CONFIGURED: std::sync::Once = std::sync::Once::new();
    // Otherwise cubecl looks for cubecl.toml in the working directory and every parent. One stream gives one
    // order and one set of memory pools.
    CONFIGURED.call_once(|| {
        let mut config = CubeClRuntimeConfig::default();
        config.streaming.max_streams = 1;
        CubeClRuntimeConfig::set(config);
    });
    BurnOps::new(burn_cuda::CudaDevice::new(usize::from(index)), false)
}

#[cfg(feature = "cuda")]
fn on_cuda(
    index: u16,
    plan: &Plan,
    file: &File,
    shape: CacheShape,
    pool: ThreadPool,
    facts: Facts,
) -> Result<(Facts, Box<dyn Runner>), ModelError> {
    run(cuda(index), "burn cuda", plan, file, shape, pool, facts)
}

#[cfg(feature = "cuda")]
fn encoder_on_cuda(
    index: u16,
    config: &bert::Config,
    file: &File,
    pool: ThreadPool,
) -> Result<(String, Box<dyn EncoderRunner>), ModelError> {
    let runner = bert::Bert::load(cuda(index), file, config, pool)?;
    Ok(("burn cuda".to_owned(), Box::new(runner)))
}

#[cfg(not(feature = "cuda"))]
fn on_cuda(
    _index: u16,
    _plan: &Plan,
    _file: &File,
    _shape: CacheShape,
    _pool: ThreadPool,
    _facts: Facts,
) -> Result<(Facts, Box<dyn Runner>), ModelError> {
    Err(ModelError::DeviceUnsupported)
}

#[cfg(not(feature = "cuda"))]
fn encoder_on_cuda(
    _index: u16,
    _config: &bert::Config,
    _file: &File,
    _pool: ThreadPool,
) -> Result<(String, Box<dyn EncoderRunner>), ModelError> {
    Err(ModelError::DeviceUnsupported)
}

/// The threads of one model; they wait inside the pool between tokens.
fn pool(options: &Options) -> Result<ThreadPool, ModelError> {
    let builder = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads.max(1))
        .thread_name(|index| format!("model-{index}"));
    builder.build().map_err(|_no_thread| ModelError::Threads)
}

fn unsupported(architecture: Option<&str>) -> ModelError {
    ModelError::Architecture { name: Name::of(architecture.unwrap_or("(none)")) }
}

fn narrow(size: usize) -> u32 {
    u32::try_from(size).expect("sizes were checked")
}

/// The vocabulary of a GGUF file: rows of its table of embeddings.
fn vocabulary(file: &File) -> Result<usize, ModelError> {
    const TABLE: &str = "token_embd.weight";
    match file.tensor(TABLE).map(|table| table.shape()) {
        Some(&[rows, _]) => Ok(rows),
        Some(_) => Err(ModelError::TensorShape { name: Name::of(TABLE) }),
        None => Err(ModelError::TensorMissing { name: Name::of(TABLE) }),
    }
}
