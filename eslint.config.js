import { builtinModules } from 'node:module';
import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

/** Forbids imports between folders: the directions of docs/architecture.md, checked. */
const restrict = (folder, patterns, paths = []) => ({
  files: [`${folder}/**/*.ts`],
  rules: { '@typescript-eslint/no-restricted-imports': ['error', { paths, patterns }] },
});
const noTests = { group: ['**/test/**'], message: 'nothing imports test/' };
const only = (message, ...folders) => ({ group: folders.map((folder) => `**/${folder}/**`), message });

export default tseslint.config(
  { ignores: ['lib/', 'node_modules/', 'test/.mutants/'] },
  tseslint.configs.recommendedTypeChecked,
  { languageOptions: { parserOptions: { projectService: true } } },
  { files: ['**/*.js', '**/*.cjs'], extends: [tseslint.configs.disableTypeChecked] },
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
    },
  },
  restrict(
    'workflows',
    [
      {
        group: ['**/activities/**'],
        allowTypeImports: true,
        message: 'workflows/ takes only types from activities/',
      },
      only('workflows/ stands alone', 'workers', 'client', 'cli', 'local', 'test'),
    ],
    builtinModules.flatMap((name) => [name, `node:${name}`]),
  ),
  restrict('activities', [
    only('activities/ stands alone', 'workflows', 'workers', 'client', 'cli', 'local', 'test'),
  ]),
  restrict('workers', [only('workers/ takes workflows, activities and client', 'cli', 'local'), noTests]),
  restrict('client', [
    {
      group: ['**/activities/**'],
      allowTypeImports: true,
      message: 'client/ takes only types from activities/',
    },
    {
      group: ['**/workflows/*', '!**/workflows/messages.js', '!**/workflows/task-queues.js'],
      message: 'client/ takes only messages and queue names',
    },
    only('client/ stands alone', 'workers', 'cli', 'local', 'test'),
  ]),
  restrict('local', [only('local/ takes workers and client', 'cli', 'workflows'), noTests]),
  restrict('cli', [noTests]),
  // mocha's describe and it hand back promises that nobody awaits; tests may assert what the types already say
  {
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': 'off',
      // what a test's own helper returns is read off the helper
      '@typescript-eslint/explicit-module-boundary-types': 'off',
    },
  },
  prettier,
);
