"""A person can sign in with the login that the demo prints."""


def test_the_project_page_opens_for_the_demo_login(page, label_studio):
    label_studio.create_project("Seen in a browser")
    page.goto("/projects")
    page.get_by_text("Seen in a browser").wait_for(timeout=60_000)
