"""The warp inside other libraries' augmentation pipelines; each file needs the library that it is named after."""
