//! Shows, tries, explains and checks container networks: the cnikit command line.
