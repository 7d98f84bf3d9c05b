"""fusechat: fuse the strengths of several large language models into one small one.

The three packages lie at the top of the repository; the links beside this file make them `fusechat.pipeline`,
`fusechat.services` and `fusechat.training` for Python, mypy and editors alike.
"""
