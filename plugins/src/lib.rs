//! Every cnikit CNI plugin in one small multi-call executable.
