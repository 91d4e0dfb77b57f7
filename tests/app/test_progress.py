from app.progress import progress_line


def test_progress_says_how_far_and_how_long():
    assert progress_line(250, 1000, 3.0) == "250 of 1,000 requests simulated (25%), about 9 s left"


def test_progress_before_the_first_request_makes_no_forecast():
    assert progress_line(0, 1000, 3.0) == "0 of 1,000 requests simulated (0%)"
