"""Studies: experiments on a retriever, their settings, results and report sections."""
