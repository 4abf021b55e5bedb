//! Linux network operations as values: applied, checked, undone, simulated or printed.
