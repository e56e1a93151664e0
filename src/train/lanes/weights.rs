//! A network's weights on the host, for distribution to its copies.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{ExecutionError, Tensor, TensorData, Transaction};

use crate::cluster::Cluster;
use crate::model::{MultiViewNet, StageSet};

/// The weights that a copy of a network takes over.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    trainable: StageSet,
    /// Whether frozen parameters are included.
    all: bool,
    /// Values of the included parameters in the order of the network, f32.
    values: Vec<TensorData>,
}

/// Returns whether a parameter is included: with `all` every one, otherwise those that an update
/// changes. Running statistics are always included, even those of frozen layers, as they are small.
fn included<const D: usize>(all: bool, param: &Param<Tensor<D>>, path: &[String]) -> bool {
    let last = path.last().map(String::as_str);
    let statistics = matches!(last, Some("running_mean" | "running_var"));
    all || statistics || param.val().is_require_grad()
}

impl Weights {
    /// Reads back the weights of `net`; with `all` including the frozen ones.
    pub(super) fn read(net: &MultiViewNet, all: bool) -> Result<Self, ExecutionError> {
        struct Read {
            all: bool,
            path: Vec<String>,
            transaction: Transaction,
        }
        impl ModuleVisitor for Read {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }

            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }

            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if included(self.all, param, &self.path) {
                    let transaction = std::mem::take(&mut self.transaction);
                    self.transaction = transaction.register(param.val().inner());
                }
            }
        }
        let mut read = Read { all, path: Vec::new(), transaction: Transaction::default() };
        net.visit(&mut read);
        let values = read.transaction.try_execute()?;
        Ok(Self { trainable: net.backbone.trainable(), all, values })
    }

    /// Drops the last tensor.
    #[cfg(test)]
    pub(super) fn incomplete(mut self) -> Self {
        self.values.pop();
        self
    }

    /// Returns a digest that very likely differs for different weights: the CRC-32 of their bytes.
    pub(super) fn digest(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        self.values.iter().for_each(|values| crc.update(values.as_bytes()));
        crc.finalize()
    }

    /// Sends the lead's weights to all ranks and returns them; the values of other ranks are ignored.
    pub(super) fn broadcast(mut self, cluster: &Cluster) -> Self {
        let mut own: Vec<u8> = Vec::new();
        if cluster.is_lead() {
            self.values.iter().for_each(|values| own.extend_from_slice(values.as_bytes()));
        }
        let bytes = cluster.broadcast(own);
        let mut rest = &bytes[..];
        for values in &mut self.values {
            let (head, tail) = rest.split_at(values.as_bytes().len());
            let received: Vec<f32> = bytemuck::pod_collect_to_vec(head);
            *values = TensorData::new(received, values.shape().clone());
            rest = tail;
        }
        self
    }

    /// Loads the weights into a copy of the network, on the copy's device.
    pub(super) fn load(&self, net: MultiViewNet) -> MultiViewNet {
        struct Load<'a> {
            all: bool,
            path: Vec<String>,
            values: std::slice::Iter<'a, TensorData>,
        }
        impl ModuleMapper for Load<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }

            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }

            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if !included(self.all, &param, &self.path) {
                    return param;
                }
                let (id, old, mapper) = param.consume();
                let values = self.values.next().expect("a copy has the same parameters");
                let mut value =
                    Tensor::<D>::from_data(values.clone(), &old.clone().inner().device());
                if old.is_autodiff() {
                    value = Tensor::from_inner(value).set_require_grad(old.is_require_grad());
                }
                Param::from_mapped_value(id, value, mapper)
            }
        }
        let net = net.with_trainable(self.trainable);
        net.map(&mut Load { all: self.all, path: Vec::new(), values: self.values.iter() })
    }
}
