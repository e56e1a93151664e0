//! A forward pass in the form that a page executes: buffers, shaders, launches. Nothing here uses a GPU.

use serde::Serialize;

use super::sharing::{Lifetime, Sharing, least};
use super::weights::Span;
use crate::kernels::plan::{DeviceLimits, Plan, Shader, Slot};
use crate::kernels::storage::Storage;
use crate::kernels::web::{shader_index, uses_f16, uses_subgroups};

/// A forward pass of one view. The page creates the buffers, runs `prepare` once, and for each view writes
/// the clip into `input`, runs the layers in order and reads `output` back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Program {
    /// Features that a WebGPU device must have been requested with.
    pub features: Vec<&'static str>,
    /// Subgroup size of the devices that the program is limited to, which run shaders on the CPU; `None` if
    /// it is for any device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subgroup: Option<u32>,
    /// Whether activations, including `input` and `output`, are f16 rather than f32.
    pub half: bool,
    /// WGSL sources with the entry point `main`, without duplicates.
    pub shaders: Vec<String>,
    /// All buffers.
    pub buffers: Vec<Buffer>,
    /// Launches that depend only on weights.
    pub prepare: Vec<Dispatch>,
    /// The forward pass, layer by layer.
    pub layers: Vec<Layer>,
    /// Index of the buffer of the normalised clip, `[3, T, H, W]`.
    pub input: usize,
    /// Index of the buffer of the last stage's output.
    pub output: usize,
    /// Shape of the output, `[F, T, H, W]`; the features are its means over T, H, W.
    pub result: [usize; 4],
    /// GPU memory that the program takes.
    pub memory: Memory,
}

/// A buffer of a program.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Buffer {
    /// Size in bytes.
    pub bytes: usize,
    /// Initial contents, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Whether only [`Program::prepare`] uses it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
}

/// Initial contents of a buffer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contents {
    /// 32-bit words.
    Words(Vec<u32>),
    /// Weights, converted to f32.
    Weights(Span),
}

/// The launches of the stem or of a residual block.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Name of the part: `stem`, `layer1.0`, …
    pub name: String,
    /// Launches, in order.
    pub launches: Vec<Dispatch>,
}

/// One dispatch. The buffers are bindings 0, 1, … of group 0, all of them read-write storage; the
/// parameters are the last binding, read-only storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dispatch {
    /// Index in [`Program::shaders`].
    pub shader: usize,
    /// Number of workgroups along each dimension.
    pub groups: [u32; 3],
    /// Indices in [`Program::buffers`].
    pub buffers: Vec<usize>,
    /// 32-bit words of the parameters.
    pub params: Vec<u32>,
}

/// Bytes of GPU memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights and tables, which stay resident.
    pub weights: usize,
    /// Buffers of the activations.
    pub activations: usize,
    /// Peak of the activations in use at the same time, a lower bound on `activations`.
    pub least: usize,
    /// Size of the largest buffer.
    pub largest: usize,
}

/// Identifies a buffer while a program is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(usize);

#[derive(Debug)]
struct Recorded {
    bytes: usize,
    /// Origin of the contents if they are the same for every clip; `None` for an activation.
    kept: Option<Kept>,
}

#[derive(Debug, Clone)]
enum Kept {
    /// Initial contents.
    Given(Contents),
    /// Written by [`Program::prepare`].
    Prepared,
}

/// Records a program launch by launch.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Limits of the devices that the program is for.
    pub limits: DeviceLimits,
    /// Storage of the activations.
    pub stored: Storage,
    shaders: Vec<String>,
    buffers: Vec<Recorded>,
    prepare: Vec<Dispatch>,
    layers: Vec<Layer>,
}

impl Recorder {
    pub(super) fn new(limits: DeviceLimits, stored: Storage) -> Self {
        let (shaders, buffers) = (Vec::new(), Vec::new());
        Self { limits, stored, shaders, buffers, prepare: Vec::new(), layers: Vec::new() }
    }

    /// Begins the layer `name`, to which subsequent launches belong.
    pub(super) fn begin(&mut self, name: String) {
        self.layers.push(Layer { name, launches: Vec::new() });
    }

    /// Adds a buffer for activations of `values` values.
    pub(super) fn activations(&mut self, values: usize, stored: Storage) -> Id {
        // Kernels may write in groups of four values of either type.
        self.buffer(stored.bytes(values.next_multiple_of(4)), None)
    }

    /// Adds a buffer for a tensor of weights.
    pub(super) fn weights(&mut self, span: Span) -> Id {
        self.buffer(4 * span.count.next_multiple_of(4), Some(Kept::Given(Contents::Weights(span))))
    }

    fn buffer(&mut self, bytes: usize, kept: Option<Kept>) -> Id {
        self.buffers.push(Recorded { bytes: bytes.max(16), kept });
        Id(self.buffers.len() - 1)
    }

    /// Appends an operation on the given operands. A launch whose only operands are weights does the same
    /// for every clip, so it goes to [`Program::prepare`].
    pub(super) fn add<K: Shader>(&mut self, plan: &Plan<K>, operands: &[Id]) {
        let scratch: Vec<Id> = plan.scratch.iter().map(|&bytes| self.buffer(bytes, None)).collect();
        let table = |words: &Vec<u32>| {
            let contents = Contents::Words(words.clone());
            self.buffer(4 * words.len(), Some(Kept::Given(contents)))
        };
        let tables: Vec<Id> = plan.tables.iter().map(table).collect();
        for launch in &plan.launches {
            let id = |slot: &Slot| match *slot {
                Slot::Operand(n) => operands[n],
                Slot::Scratch(n) => scratch[n],
                Slot::Table(n) => tables[n],
            };
            let operand = |slot: &Slot| match *slot {
                Slot::Operand(n) => Some(&self.buffers[operands[n].0]),
                Slot::Scratch(_) | Slot::Table(_) => None,
            };
            let mut given = launch.buffers.iter().filter_map(operand).peekable();
            let prepares = given.peek().is_some() && given.all(|buffer| buffer.kept.is_some());
            let dispatch = Dispatch {
                shader: shader_index(&mut self.shaders, &launch.kernel.source()),
                groups: launch.groups,
                buffers: launch.buffers.iter().map(|slot| id(slot).0).collect(),
                params: launch.params.clone(),
            };
            if prepares {
                for Id(written) in &scratch {
                    if dispatch.buffers.contains(written) {
                        self.buffers[*written].kept = Some(Kept::Prepared);
                    }
                }
                self.prepare.push(dispatch);
            } else {
                let layer = self.layers.last_mut().expect("a layer has begun");
                layer.launches.push(dispatch);
            }
        }
    }

    /// Finishes the program, which goes from the clip in `input` to `output` of shape `result`.
    pub(super) fn finish(self, [input, output]: [Id; 2], result: [usize; 4]) -> Program {
        let Self { limits, stored, shaders, buffers: recorded, prepare, layers } = self;
        let launches: Vec<&Dispatch> = layers.iter().flat_map(|layer| &layer.launches).collect();
        let mut lifetimes = Vec::new();
        // Index of each recorded buffer among the program's; those that are not activations come first.
        let mut index = vec![None; recorded.len()];
        let mut buffers = Vec::new();
        let mut activations = Vec::new();
        for (id, Recorded { bytes, kept }) in recorded.iter().enumerate() {
            let uses = |launch: &&Dispatch| launch.buffers.contains(&id);
            let first = launches.iter().position(uses);
            let last = launches.iter().rposition(uses);
            match kept {
                None => {
                    let first = if id == input.0 { Some(0) } else { first };
                    let last = if id == output.0 { Some(launches.len()) } else { last };
                    if let (Some(first), Some(last)) = (first, last) {
                        lifetimes.push(Lifetime { bytes: *bytes, first, last });
                        activations.push(id);
                    }
                }
                Some(kept) => {
                    let prepared = prepare.iter().any(|launch| launch.buffers.contains(&id));
                    if first.is_some() || prepared {
                        let contents = match kept {
                            Kept::Given(contents) => Some(contents.clone()),
                            Kept::Prepared => None,
                        };
                        index[id] = Some(buffers.len());
                        buffers.push(Buffer {
                            bytes: *bytes,
                            contents,
                            temporary: first.is_none(),
                        });
                    }
                }
            }
        }
        let resident = buffers.iter().filter(|buffer| !buffer.temporary);
        let weights = resident.map(|buffer| buffer.bytes).sum();
        let sharing = Sharing::new(&lifetimes);
        for (id, buffer) in activations.iter().zip(&sharing.buffer) {
            index[*id] = Some(buffers.len() + buffer);
        }
        let pool = sharing.sizes.iter();
        buffers.extend(pool.map(|&bytes| Buffer { bytes, contents: None, temporary: false }));
        let memory = Memory {
            weights,
            activations: sharing.total(),
            least: least(&lifetimes),
            largest: buffers.iter().map(|buffer| buffer.bytes).max().unwrap_or(0),
        };
        let index_of = |id: usize| index[id].expect("every bound buffer has an index");
        let bound = |launch: Dispatch| {
            let buffers = launch.buffers.iter().map(|&id| index_of(id)).collect();
            Dispatch { buffers, ..launch }
        };
        let features = [
            ("shader-f16", uses_f16 as fn(&str) -> bool),
            ("subgroups", uses_subgroups as fn(&str) -> bool),
        ];
        let used = features.into_iter().filter(|(_, uses)| shaders.iter().any(|text| uses(text)));
        Program {
            features: used.map(|(name, _)| name).collect(),
            subgroup: limits.software.then_some(limits.subgroup[0]),
            half: stored.is_half(),
            input: index_of(input.0),
            output: index_of(output.0),
            prepare: prepare.into_iter().map(bound).collect(),
            layers: layers
                .into_iter()
                .map(|layer| Layer {
                    launches: layer.launches.into_iter().map(bound).collect(),
                    ..layer
                })
                .collect(),
            shaders,
            buffers,
            result,
            memory,
        }
    }
}
