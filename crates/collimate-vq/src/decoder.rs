//! The decoder from a map of vectors to colors, in the two published layouts of its tensors.

use crate::file::{TensorFile, VqError};
use crate::map::{Convolution, Map, Norm, attend};

/// Most times that a map is doubled: of a published decoder four.
const MOST_DOUBLINGS: usize = 6;
/// Most blocks of a level; of a published decoder three.
const MOST_BLOCKS: usize = 64;

/// A decoder: a convolution, residual blocks with attention at the smallest side, doublings, and a convolution to colors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decoder {
    /// From entries of the codebook to the decoder's input.
    before: Convolution,
    first: Convolution,
    stages: Vec<Stage>,
    norm: Norm,
    last: Convolution,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Residual(Box<Residual>),
    Attention(Box<Attention>),
    Doubling(Convolution),
}

/// x + conv2(swish(norm2(conv1(swish(norm1(x)))))), x by a convolution of side 1 where the widths differ.
#[derive(Debug, Clone, PartialEq)]
struct Residual {
    norm1: Norm,
    conv1: Convolution,
    norm2: Norm,
    conv2: Convolution,
    shortcut: Option<Convolution>,
}

/// x + project(attention(norm(x))).
#[derive(Debug, Clone, PartialEq)]
struct Attention {
    norm: Norm,
    /// Queries, keys and values: three convolutions, or one of three times the width.
    qkv: Vec<Convolution>,
    project: Convolution,
}

/// How a published decoder's tensors are called.
#[derive(Debug, Clone, Copy)]
struct Names {
    /// The two residual blocks in the middle, around the attention.
    middle: [&'static str; 3],
    /// Blocks, attentions and doublings of a level.
    level: &'static str,
    block: &'static str,
    /// Whether the last level has the smallest side.
    is_reversed: bool,
}

const LLAMAGEN: Names =
    Names { middle: ["mid.0", "mid.1", "mid.2"], level: "conv_blocks", block: "res", is_reversed: false };
const VAR: Names =
    Names { middle: ["mid.block_1", "mid.attn_1", "mid.block_2"], level: "up", block: "block", is_reversed: true };

impl Decoder {
    /// Reads a decoder of entries of `width`, LlamaGen's or VAR's by its names.
    pub(crate) fn read(file: &TensorFile, width: usize) -> Result<Self, VqError> {
        let names = if file.has_any("decoder.mid.0.") { LLAMAGEN } else { VAR };
        let before = file.convolution("post_quant_conv", width)?;
        let first = file.convolution("decoder.conv_in", before.outputs())?;
        let mut reader = Reader { file, channels: first.outputs(), stages: Vec::new() };
        let [block, attention, other] = names.middle.map(|name| format!("decoder.{name}"));
        reader.residual(&block)?;
        if file.has(&format!("{attention}.norm")) {
            reader.attention(&attention)?;
        }
        reader.residual(&other)?;
        reader.levels(names)?;
        let Reader { channels, stages, .. } = reader;
        let norm = file.norm("decoder.norm_out", channels)?;
        let last = file.convolution("decoder.conv_out", channels)?;
        if last.outputs() != 3 {
            let problem = format!("expected 3 colors, found {} outputs", last.outputs());
            return Err(file.wrong("decoder.conv_out.weight", problem));
        }
        Ok(Self { before, first, stages, norm, last })
    }

    /// How many pixels wide a picture is for a token of its width.
    pub(crate) fn zoom(&self) -> usize {
        1 << self.stages.iter().filter(|stage| matches!(stage, Stage::Doubling(_))).count()
    }

    /// Red, green and blue of each pixel, from −1 to 1 for a trained decoder, of a map of entries.
    pub(crate) fn colors(&self, entries: &Map) -> Map {
        let mut map = self.first.apply(&self.before.apply(entries, 1), 1);
        for stage in &self.stages {
            match stage {
                Stage::Residual(block) => block.apply(&mut map),
                Stage::Attention(attention) => attention.apply(&mut map),
                Stage::Doubling(convolution) => map = convolution.apply(&map, 2),
            }
        }
        self.last.apply(&self.norm.apply(&map).swish(), 1)
    }
}

/// Reads the stages of a decoder, each of which takes the channels of the one before.
struct Reader<'a> {
    file: &'a TensorFile,
    channels: usize,
    stages: Vec<Stage>,
}

impl Reader<'_> {
    fn levels(&mut self, names: Names) -> Result<(), VqError> {
        let level = |number: usize| format!("decoder.{}.{number}", names.level);
        let has_blocks = |number: &usize| self.file.has_any(&format!("{}.{}.0.", level(*number), names.block));
        let mut levels: Vec<usize> = (0..=MOST_DOUBLINGS).take_while(has_blocks).collect();
        if names.is_reversed {
            levels.reverse();
        }
        if levels.is_empty() {
            let problem = "it is missing, and so the decoder has no layers: expected those of LlamaGen or VAR";
            return Err(self.file.wrong(&format!("{}.{}.0.norm1.weight", level(0), names.block), problem.to_owned()));
        }
        for level in levels.into_iter().map(level) {
            for block in 0..MOST_BLOCKS {
                let root = format!("{level}.{}.{block}", names.block);
                if !self.file.has(&format!("{root}.norm1")) {
                    break;
                }
                self.residual(&root)?;
                let attention = format!("{level}.attn.{block}");
                if self.file.has(&format!("{attention}.norm")) {
                    self.attention(&attention)?;
                }
            }
            let doubling = format!("{level}.upsample.conv");
            if self.file.has(&doubling) {
                let convolution = self.convolution(&doubling, self.channels)?;
                self.stages.push(Stage::Doubling(convolution));
            }
        }
        Ok(())
    }

    fn residual(&mut self, root: &str) -> Result<(), VqError> {
        let (file, inputs) = (self.file, self.channels);
        let norm1 = file.norm(&format!("{root}.norm1"), inputs)?;
        let conv1 = file.convolution(&format!("{root}.conv1"), inputs)?;
        let outputs = conv1.outputs();
        let norm2 = file.norm(&format!("{root}.norm2"), outputs)?;
        let conv2 = self.convolution(&format!("{root}.conv2"), outputs)?;
        let shortcut = format!("{root}.nin_shortcut");
        let shortcut = match inputs == outputs {
            true => None,
            false => {
                let shortcut_of = file.convolution(&shortcut, inputs)?;
                self.check_outputs(&shortcut, &shortcut_of, outputs)?;
                Some(shortcut_of)
            }
        };
        self.channels = outputs;
        self.stages.push(Stage::Residual(Box::new(Residual { norm1, conv1, norm2, conv2, shortcut })));
        Ok(())
    }

    fn attention(&mut self, root: &str) -> Result<(), VqError> {
        let (file, channels) = (self.file, self.channels);
        let norm = file.norm(&format!("{root}.norm"), channels)?;
        let joint = format!("{root}.qkv");
        let qkv = match file.has(&joint) {
            true => {
                let all = file.convolution(&joint, channels)?;
                self.check_outputs(&joint, &all, 3 * channels)?;
                vec![all]
            }
            false => {
                let one = |name: &str| self.convolution(&format!("{root}.{name}"), channels);
                ["q", "k", "v"].map(one).into_iter().collect::<Result<_, _>>()?
            }
        };
        let project = self.convolution(&format!("{root}.proj_out"), channels)?;
        self.stages.push(Stage::Attention(Box::new(Attention { norm, qkv, project })));
        Ok(())
    }

    /// A convolution that keeps its channels.
    fn convolution(&self, layer: &str, channels: usize) -> Result<Convolution, VqError> {
        let convolution = self.file.convolution(layer, channels)?;
        self.check_outputs(layer, &convolution, channels)?;
        Ok(convolution)
    }

    fn check_outputs(&self, layer: &str, convolution: &Convolution, expected: usize) -> Result<(), VqError> {
        match convolution.outputs() == expected {
            true => Ok(()),
            false => {
                let problem = format!("expected {expected} outputs, found {}", convolution.outputs());
                Err(self.file.wrong(&format!("{layer}.weight"), problem))
            }
        }
    }
}

impl Residual {
    fn apply(&self, map: &mut Map) {
        let inner = self.conv1.apply(&self.norm1.apply(map).swish(), 1);
        let added = self.conv2.apply(&self.norm2.apply(&inner).swish(), 1);
        if let Some(shortcut) = &self.shortcut {
            *map = shortcut.apply(map, 1);
        }
        map.add(&added);
    }
}

impl Attention {
    fn apply(&self, map: &mut Map) {
        let normed = self.norm.apply(map);
        let all: Vec<Map> = self.qkv.iter().map(|convolution| convolution.apply(&normed, 1)).collect();
        let part = |number: usize| match all.as_slice() {
            [joint] => {
                let (width, wide) = (joint.channels / 3, joint.channels);
                let own = |row: &[f32]| row[number * width..(number + 1) * width].to_vec();
                Map { data: joint.data.chunks_exact(wide).flat_map(own).collect(), channels: width, ..*joint }
            }
            apart => apart[number].clone(),
        };
        let added = attend(&part(0), &part(1), &part(2));
        map.add(&self.project.apply(&added, 1));
    }
}
