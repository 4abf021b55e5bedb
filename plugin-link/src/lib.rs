//! The CNI plugins that make one interface: loopback, ptp, dummy.
