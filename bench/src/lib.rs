#![doc = include_str!("../README.md")]

pub mod cpu;
pub mod demo;
pub mod encode;
pub mod photos;
pub mod replica;
pub mod report;
pub mod sheet;
pub mod wire;
