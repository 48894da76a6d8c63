#![doc = include_str!("../README.md")]

mod axis;
mod canvas;
pub mod clips;
pub mod cpu;
pub mod demo;
pub mod encode;
pub mod fleet;
pub mod index;
mod ink;
pub mod load;
pub mod photos;
pub mod replica;
pub mod report;
mod secrets;
pub mod sheet;
mod style;
pub mod trainer;
pub mod wire;
