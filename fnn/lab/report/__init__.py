"""The report: one page, without network or server, that shows what the experiments of a results folder found."""
