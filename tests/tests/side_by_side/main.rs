//! The reference's plugins and ours, side by side: the same calls on two nodes, compared in what they say and in what
//! the kernel holds afterwards.

mod keys;
mod pair;
