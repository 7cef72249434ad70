# `docker buildx bake` builds from the contexts that `intermodal build` assembles (CONTEXTS); it is not run by hand.
variable "CONTEXTS" { default = ".intermodal/build" }
variable "BASE_IMAGE" { default = "intermodal/base:dev" }
variable "TORCH_IMAGE" { default = "intermodal/torch:dev" }

group "default" { targets = ["dataset", "backbone", "trainer", "hpo", "converter", "benchmarker", "selector"] }

target "torch" {
  context = "${CONTEXTS}/torch"
  tags    = ["intermodal/torch:dev"]
  args    = { BASE_IMAGE = BASE_IMAGE }
  network = "none"
}

target "plain" {
  name    = step
  matrix  = { step = ["dataset", "backbone", "benchmarker", "selector"] }
  context = "${CONTEXTS}/${step}"
  tags    = ["intermodal/${step}:dev"]
  args    = { BASE_IMAGE = BASE_IMAGE }
  network = "none"
}

target "on-torch" {
  name    = step
  matrix  = { step = ["trainer", "hpo", "converter"] }
  context = "${CONTEXTS}/${step}"
  tags    = ["intermodal/${step}:dev"]
  args    = { TORCH_IMAGE = TORCH_IMAGE }
  network = "none"
}
