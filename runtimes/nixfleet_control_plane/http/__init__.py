"""The control plane's HTTP surface. A request becomes an input, a reply becomes an answer; no policy here."""
