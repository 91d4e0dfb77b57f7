"""What Streamlit runs for each look at a page."""

from app.web.frame import main

main()
