//! Code that tests share: devices, reference values, data sets, runs, the program, comparisons.

pub mod adapter;
pub mod augment;
pub mod browser;
pub mod cache;
pub mod clips;
pub mod compare;
pub mod conv;
pub mod data;
pub mod fill;
pub mod http;
pub mod mount;
pub mod network;
pub mod page;
pub mod program;
pub mod reference;
pub mod report;
pub mod resume;
pub mod run;
pub mod runs;
pub mod serve;
pub mod skip;
pub mod tensors;
pub mod wait;
