import assert from "node:assert/strict";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const EXTENSION_END = 2 ** 29;

/**
 * The source of `buf/validate/validate.proto`. No package carries it, but protovalidate embeds its descriptor; printing that keeps buf
 * offline. Options and reserved names are left out: the rules themselves are what our files are compiled against.
 */
export function validateProto() {
  const { syntax, package: name, dependency, enumType, messageType, extension } = file_buf_validate_validate.proto;
  assert(syntax === "" && messageType.every((message) => !message.nestedType.length && !message.enumType.length));
  return [
    'syntax = "proto2";',
    `package ${name};`,
    ...dependency.map((path) => `import "${path}";`),
    ...extension.map((field) => `extend ${field.extendee} { ${printField(field)} }`),
    ...enumType.map(printEnum),
    ...messageType.map(printMessage),
    "",
  ].join("\n");
}

const printEnum = ({ name, value }: EnumDescriptorProto) =>
  block(
    "enum",
    name,
    value.map((one) => `${one.name} = ${one.number};`),
  );

function printMessage({ name, field, oneofDecl, extensionRange }: DescriptorProto) {
  const alone = field.filter((one) => !Object.hasOwn(one, "oneofIndex"));
  return block("message", name, [
    ...alone.map(printField),
    ...oneofDecl.map((oneof, index) => {
      const members = field.filter((one) => Object.hasOwn(one, "oneofIndex") && one.oneofIndex === index);
      return block("oneof", oneof.name, members.map(printMember));
    }),
    ...extensionRange.map(({ start, end }) => `extensions ${start} to ${end === EXTENSION_END ? "max" : end - 1};`),
  ]);
}

const printField = (field: FieldDescriptorProto) => `${Label[field.label].toLowerCase()} ${printMember(field)}`;

const printMember = ({ name, number, type, typeName }: FieldDescriptorProto) =>
  `${typeName || Type[type].toLowerCase()} ${name} = ${number};`;

const block = (kind: string, name: string, lines: string[]) => `${kind} ${name} {\n${lines.join("\n")}\n}`;
