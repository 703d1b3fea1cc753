"""Figures as plain data: plotly draws them in the browser, in its colours, light or dark."""
