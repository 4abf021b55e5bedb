//! The CNI plugin bridge: pods on a Linux bridge.
