defmodule EventSeal.Store.Sheaf do
  @moduledoc """
  Closed flows that follow each other, all of whose blocks are few and small and lie in files: as one term that a verification
  hands on as it stands, so that a flow costs hardly more than its bytes.

    * `flows` - of each flow `{flow, last position, places}`; a place is, for each block by height, `<<number of the file::32,
      offset::32, length::32>>`
    * `paths` - where the files lie: `{number, path}`
    * `hint` - with the last flow of the sheaf, where the store goes on
  """

  @enforce_keys [:flows, :paths]
  defstruct [:flows, :paths, :hint]

  @type flow :: {EventSeal.Store.flow(), pos_integer, places :: binary}
  @type t :: %__MODULE__{flows: [flow, ...], paths: [{non_neg_integer, Path.t()}], hint: term}

  @doc "Behind which flow the next one comes, in the form that the store takes it."
  @spec cursor(t) :: {EventSeal.Store.flow(), hint :: term}
  def cursor(%__MODULE__{} = sheaf), do: {sheaf.flows |> List.last() |> elem(0), sheaf.hint}

  @doc "The flows, each with where its blocks lie, `{:file, path, offset, length}`, and its last position."
  @spec each(t) :: [{EventSeal.Store.flow(), pos_integer, [{:file, Path.t(), non_neg_integer, pos_integer}]}]
  def each(%__MODULE__{flows: flows, paths: paths}) do
    paths = Map.new(paths)

    for {flow, last, places} <- flows do
      {flow, last, for(<<number::32, at::32, length::32 <- places>>, do: {:file, paths[number], at, length})}
    end
  end
end
