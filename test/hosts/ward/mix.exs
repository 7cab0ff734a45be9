defmodule Ward.MixProject do
  use Mix.Project

  def project do
    [
      app: :ward,
      version: "1.0.0",
      elixir: "~> 1.14",
      deps: [{:event_seal, path: "../../.."}],
      # The library's own suite takes up every *_test.exs under its test/, so this host's tests end otherwise.
      test_pattern: "*_check.exs",
      releases: [ward: [include_executables_for: [:unix]]]
    ]
  end

  def application, do: [mod: {Ward.Application, []}, extra_applications: [:logger, :sasl]]
end
