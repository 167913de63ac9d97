import { createRegistry, type DescFile, type DescService, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { type Route, route } from "./route.ts";

type Answer = MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"];

/** grpc.reflection of both versions, which differ in name only. The descriptors are those of the generated code. */
export function reflectionRoutes(others: DescService[]): Route[] {
  const services = [...others, ServerReflection, ServerReflectionAlpha];
  const files = closureOf(services.map(({ file }) => file));
  const registry = createRegistry(...files);
  const fileOf = (symbol: string) =>
    // A method, field or enum value is found by what it belongs to.
    (registry.get(symbol) ?? registry.get(symbol.slice(0, symbol.lastIndexOf("."))))?.file;

  function answerTo({ messageRequest: { case: kind, value } }: ServerReflectionRequest): Answer {
    switch (kind) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: services.map(({ typeName: name }) => ({ name })) } };
      case "fileByFilename":
        return filesFrom(
          files.find(({ proto }) => proto.name === value),
          value,
        );
      case "fileContainingSymbol":
        return filesFrom(fileOf(value), value);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = value;
        const extendee = registry.getMessage(containingType);
        const extension = extendee && registry.getExtensionFor(extendee, extensionNumber);
        return filesFrom(extension?.file, `extension ${extensionNumber} of ${containingType}`);
      }
      case "allExtensionNumbersOfType": {
        const extensionNumber = [...registry].flatMap((type) =>
          type.kind === "extension" && type.extendee.typeName === value ? type.number : [],
        );
        return { case: "allExtensionNumbersResponse", value: { baseTypeName: value, extensionNumber } };
      }
      default:
        return { case: "errorResponse", value: { errorCode: Code.InvalidArgument, errorMessage: "nothing asked" } };
    }
  }

  async function* serverReflectionInfo(requests: AsyncIterable<ServerReflectionRequest>) {
    for await (const request of requests) {
      yield { validHost: request.host, originalRequest: request, messageResponse: answerTo(request) };
    }
  }
  return [
    route(ServerReflection, { serverReflectionInfo }),
    // The messages of the older version are the same but for the name of their package.
    route(ServerReflectionAlpha, { serverReflectionInfo } as never),
  ];
}

function filesFrom(file: DescFile | undefined, asked: string): Answer {
  if (!file) return { case: "errorResponse", value: { errorCode: Code.NotFound, errorMessage: `not found: ${asked}` } };
  const fileDescriptorProto = closureOf([file]).map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

/** The files and all that they import. */
function closureOf(files: readonly DescFile[], found = new Set<DescFile>()): DescFile[] {
  for (const file of files) {
    if (found.has(file)) continue;
    found.add(file);
    closureOf(file.dependencies, found);
  }
  return [...found];
}
