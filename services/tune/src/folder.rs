//! The model as a folder of files that Hugging Face tools and the appliance read.
//!
//! `model.safetensors` holds bf16 `[out, in]` matrices under Llama's names; `config.json` is spelt as
//! transformers 5 spells it; `tokenizer.json` is the format of the Python package `tokenizers`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::module::Param;
use burn::prelude::{Backend, Tensor};
use burn::tensor::TensorData;
use half::bf16;
use serde_json::{Value, json};

use crate::bpe::{Bpe, CONTROLS};
use crate::dice::Dice;
use crate::network::{Layer, NORM_EPSILON, Network, ROPE_THETA, Shape, narrow};

/// ChatML without a default system message.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Largest file that is read: far above what a network of five million parameters needs.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A tensor of a file: its shape and its numbers, row by row.
type Stored = (Vec<usize>, Vec<f32>);

/// A model that was read, or is to be written.
#[derive(Debug, Clone)]
pub struct Model<B: Backend> {
    /// Sizes.
    pub shape: Shape,
    /// Vocabulary.
    pub bpe: Bpe,
    /// Weights.
    pub network: Network<B>,
}

impl<B: Backend> Model<B> {
    /// Writes the folder, which is made if it is not there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to).context("the folder for the model cannot be made")?;
        write_tensors(&self.tensors()?, &to.join("model.safetensors"))?;
        let write = |name: &str, value: &Value| -> Result<()> {
            let text = serde_json::to_string_pretty(value)? + "\n";
            fs::write(to.join(name), text).with_context(|| format!("{name} cannot be written"))
        };
        write("config.json", &config(&self.shape, &self.bpe))?;
        write("tokenizer.json", &self.bpe.to_json())?;
        write("tokenizer_config.json", &tokenizer_config(&self.shape, &self.bpe))?;
        write(
            "generation_config.json",
            &json!({"do_sample": false, "eos_token_id": [self.bpe.control(2), self.bpe.control(0)],
                    "max_new_tokens": 48, "pad_token_id": self.bpe.control(0)}),
        )
    }

    /// Reads what [`Model::write`] wrote.
    ///
    /// # Errors
    /// When a file is missing, or is not of the form that `write` gives it.
    pub fn read(from: &Path, device: &B::Device) -> Result<Self> {
        let config: Value = serde_json::from_slice(&read(&from.join("config.json"))?)?;
        let size = |key: &str| -> Result<usize> {
            let number =
                config[key].as_u64().with_context(|| format!("config.json lacks {key}"))?;
            Ok(usize::try_from(number)?)
        };
        let shape = Shape {
            vocabulary: size("vocab_size")?,
            width: size("hidden_size")?,
            layers: size("num_hidden_layers")?,
            heads: size("num_attention_heads")?,
            kv_heads: size("num_key_value_heads")?,
            head: size("head_dim")?,
            inner: size("intermediate_size")?,
            context: size("max_position_embeddings")?,
        };
        let tokenizer: Value = serde_json::from_slice(&read(&from.join("tokenizer.json"))?)?;
        let bpe = Bpe::from_json(&tokenizer).context("tokenizer.json is not one of ours")?;
        let mut tensors = read_tensors(&from.join("model.safetensors"))?;
        let network = network(&shape, &mut tensors, device)?;
        ensure!(tensors.is_empty(), "model.safetensors holds tensors that no layer has");
        Ok(Self { shape, bpe, network })
    }

    /// The same weights with Gaussian noise: each matrix gets noise of `amplitude` times its root mean
    /// square; norms stay.
    ///
    /// # Errors
    /// When burn cannot give the weights out.
    pub fn with_noise(&self, amplitude: f64, seed: u64, device: &B::Device) -> Result<Self> {
        let mut dice = Dice::new(seed);
        let mut tensors = self.tensors()?;
        for (shape, values) in tensors.values_mut().filter(|(shape, _)| shape.len() == 2) {
            let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            let scale = amplitude * (squares / values.len() as f64).sqrt();
            debug_assert_eq!(shape.iter().product::<usize>(), values.len());
            for value in values {
                *value = narrow(f64::from(*value) + scale * dice.gaussian());
            }
        }
        let network = network(&self.shape, &mut tensors, device)?;
        Ok(Self { shape: self.shape, bpe: self.bpe.clone(), network })
    }

    /// How many parameters there are.
    #[must_use]
    pub fn parameters(&self) -> usize {
        use burn::module::Module as _;
        self.network.num_params()
    }

    /// The weights under their names in files, matrices `[out, in]`.
    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let s = &self.shape;
        let mut out = BTreeMap::new();
        let mut put = |name: String, dims: Vec<usize>, data: TensorData| -> Result<()> {
            let values = data.to_vec::<f32>().ok().context("a weight is not of f32")?;
            out.insert(name, (dims, values));
            Ok(())
        };
        put(
            "model.embed_tokens.weight".to_owned(),
            vec![s.vocabulary, s.width],
            self.network.embedding.val().into_data(),
        )?;
        put("model.norm.weight".to_owned(), vec![s.width], self.network.norm.val().into_data())?;
        for (index, layer) in self.network.layers.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            put(name("input_layernorm"), vec![s.width], layer.attention_norm.val().into_data())?;
            put(name("post_attention_layernorm"), vec![s.width], layer.mlp_norm.val().into_data())?;
            for (part, matrix) in matrices(s, layer) {
                let [input, output] = matrix.dims();
                put(name(part), vec![output, input], matrix.transpose().into_data())?;
            }
        }
        Ok(out)
    }
}

/// Where the fused matrices part: columns of queries, keys, values, and of gate and up.
fn parts(s: &Shape) -> [(&'static str, usize); 5] {
    let kv = s.kv_heads * s.head;
    [
        ("self_attn.q_proj", s.heads * s.head),
        ("self_attn.k_proj", kv),
        ("self_attn.v_proj", kv),
        ("mlp.gate_proj", s.inner),
        ("mlp.up_proj", s.inner),
    ]
}

fn matrices<B: Backend>(s: &Shape, layer: &Layer<B>) -> Vec<(&'static str, Tensor<B, 2>)> {
    let mut out = vec![("self_attn.o_proj", layer.o.val()), ("mlp.down_proj", layer.down.val())];
    let parts = parts(s);
    for (fused, names) in [(layer.qkv.val(), &parts[..3]), (layer.gate_up.val(), &parts[3..])] {
        let mut from = 0;
        for (name, columns) in names {
            out.push((*name, fused.clone().narrow(1, from, *columns)));
            from += columns;
        }
    }
    out
}

fn network<B: Backend>(
    s: &Shape,
    tensors: &mut BTreeMap<String, Stored>,
    device: &B::Device,
) -> Result<Network<B>> {
    let mut take = |name: String, dims: &[usize]| -> Result<TensorData> {
        let (found, values) =
            tensors.remove(&name).with_context(|| format!("{name} is missing"))?;
        ensure!(found == dims, "{name} has another shape than config.json says");
        Ok(TensorData::new(values, found))
    };
    let vector = |data: TensorData| Param::from_tensor(Tensor::from_data(data, device));
    let matrix = |data: TensorData| Tensor::<B, 2>::from_data(data, device);
    let embedding = matrix(take("model.embed_tokens.weight".to_owned(), &[s.vocabulary, s.width])?);
    let norm = vector(take("model.norm.weight".to_owned(), &[s.width])?);
    let mut layers = Vec::new();
    for index in 0..s.layers {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        let mut fused = |names: &[(&str, usize)]| -> Result<Param<Tensor<B, 2>>> {
            let mut columns = Vec::new();
            for (part, rows) in names {
                columns.push(matrix(take(name(part), &[*rows, s.width])?).transpose());
            }
            Ok(Param::from_tensor(Tensor::cat(columns, 1)))
        };
        let parts = parts(s);
        let (qkv, gate_up) = (fused(&parts[..3])?, fused(&parts[3..])?);
        let turned = |data| Param::from_tensor(matrix(data).transpose());
        layers.push(Layer {
            qkv,
            gate_up,
            o: turned(take(name("self_attn.o_proj"), &[s.width, s.heads * s.head])?),
            down: turned(take(name("mlp.down_proj"), &[s.width, s.inner])?),
            attention_norm: vector(take(name("input_layernorm"), &[s.width])?),
            mlp_norm: vector(take(name("post_attention_layernorm"), &[s.width])?),
        });
    }
    Ok(Network { embedding: Param::from_tensor(embedding), layers, norm })
}

fn config(s: &Shape, bpe: &Bpe) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": null, "dtype": "bfloat16", "eos_token_id": bpe.control(2), "head_dim": s.head,
        "hidden_act": "silu", "hidden_size": s.width, "initializer_range": 0.02, "intermediate_size": s.inner,
        "max_position_embeddings": s.context, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": s.heads, "num_hidden_layers": s.layers, "num_key_value_heads": s.kv_heads,
        "pad_token_id": bpe.control(0), "pretraining_tp": 1, "rms_norm_eps": NORM_EPSILON,
        "rope_parameters": {"rope_theta": ROPE_THETA, "rope_type": "default"}, "tie_word_embeddings": true,
        "transformers_version": "5.23.0", "use_cache": true, "vocab_size": s.vocabulary
    })
}

fn tokenizer_config(s: &Shape, bpe: &Bpe) -> Value {
    let added: serde_json::Map<String, Value> = CONTROLS
        .iter()
        .enumerate()
        .map(|(nth, content)| {
            let token = json!({"content": content, "lstrip": false, "normalized": false, "rstrip": false,
                               "single_word": false, "special": true});
            (bpe.control(nth).to_string(), token)
        })
        .collect();
    json!({
        "add_bos_token": false, "add_prefix_space": false, "added_tokens_decoder": added, "bos_token": null,
        "chat_template": CHAT_TEMPLATE, "clean_up_tokenization_spaces": false, "eos_token": CONTROLS[2],
        "errors": "replace", "model_max_length": s.context, "pad_token": CONTROLS[0],
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": null
    })
}

/// Writes bf16 tensors: eight bytes of header length, the header padded to eight, the data by name.
fn write_tensors(tensors: &BTreeMap<String, Stored>, to: &Path) -> Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, (shape, values)) in tensors {
        let from = data.len();
        data.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
        header.insert(
            name.clone(),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [from, data.len()]}),
        );
    }
    let mut head = serde_json::to_vec(&header)?;
    head.resize(head.len().next_multiple_of(8), b' ');
    let mut file = u64::try_from(head.len())?.to_le_bytes().to_vec();
    file.extend(head);
    file.extend(data);
    fs::write(to, file).context("model.safetensors cannot be written")
}

fn read_tensors(from: &Path) -> Result<BTreeMap<String, Stored>> {
    let file = read(from)?;
    let (length, rest) = file.split_first_chunk::<8>().context("model.safetensors is too short")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let (head, data) =
        rest.split_at_checked(length).context("model.safetensors ends in its header")?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(head)?;
    let mut out = BTreeMap::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        if entry["dtype"] != "BF16" {
            bail!("{name} is not of bf16");
        }
        let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone())?;
        let [from, to]: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone())?;
        let bytes =
            data.get(from..to).with_context(|| format!("{name} lies outside of the file"))?;
        let values: Vec<f32> = bytes
            .chunks_exact(2)
            .map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32())
            .collect();
        ensure!(
            values.len() == shape.iter().product::<usize>(),
            "{name} has another size than its shape"
        );
        out.insert(name.clone(), (shape, values));
    }
    Ok(out)
}

/// The bytes of a file that is not absurdly large.
pub(crate) fn read(from: &Path) -> Result<Vec<u8>> {
    let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let size = fs::metadata(from).with_context(|| format!("{name} cannot be opened"))?.len();
    ensure!(size <= FILE_BYTES_MAX, "{name} is larger than {FILE_BYTES_MAX} bytes");
    #[expect(clippy::disallowed_methods, reason = "the size was checked")]
    fs::read(from).with_context(|| format!("{name} cannot be read"))
}
