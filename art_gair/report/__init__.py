"""The robustness report: data and statistics, then text, Markdown, HTML and saving; nothing here needs a model."""
