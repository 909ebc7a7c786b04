"""Stage one: media to embeddings. Decodes each file once and passes it through every frozen backbone asked for."""
