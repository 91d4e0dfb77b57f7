"""The script that Streamlit runs: in a folder of its own, as Streamlit puts that folder on the path."""
