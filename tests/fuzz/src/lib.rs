//! Only the modules of polyview that read data, under the main crate's name: they use no tensors,
//! so that fuzzing them does not require building Burn.

mod guard;

pub use guard::guard;
pub use source::{data, schema};
use source::{near, text};

#[path = "../../../src"]
mod source {
    pub mod near;
    pub mod schema;
    pub mod text;

    pub mod data {
        pub mod annotations;
        pub mod clip;
        pub mod error;
        mod json;
        pub mod layout;
        pub mod natural;
        pub mod problem;
        pub mod video;

        pub use polyview_cpu::resize;
    }
}
