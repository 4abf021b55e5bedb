//! Build a CNI plugin by describing what should exist: ADD with undo, DEL, CHECK, GC, STATUS and explain follow.
